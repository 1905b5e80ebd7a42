//! The edge's Lua, module by module, inside a real Nginx: `edge/tests/run.lua` tries everything and says what failed.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use servers::Nginx;

const CONFIG: &str = r#"
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
events {}
http {
    @TEMPORARY@
    access_log off;
    lua_package_path "${prefix}lua/?.lua;;";
    lua_shared_dict edge_credits 4m;
    lua_shared_dict edge_rates 4m;
    lua_shared_dict edge_known 4m;
    lua_shared_dict edge_metrics 1m;
    server {
        listen 127.0.0.1:@PORT@;
        location = /test { content_by_lua_block { dofile(ngx.config.prefix() .. "tests/run.lua") } }
    }
}
"#;

fn copy(from: &Path, to: &Path) -> usize {
    fs::create_dir_all(to).unwrap();
    let files = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    let lua: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "lua")).collect();
    for path in &lua {
        fs::copy(path, to.join(path.file_name().unwrap())).unwrap();
    }
    lua.len()
}

#[test]
fn every_module_of_the_edge_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let edge = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../edge");
    copy(&edge.join("lua/edge"), &dir.path().join("lua/edge"));
    let files = copy(&edge.join("tests"), &dir.path().join("tests")) - 1;
    let nginx = Nginx::start(dir.path(), CONFIG).unwrap();
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(std::process::id);
    let mut connection = TcpStream::connect(("127.0.0.1", nginx.port())).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    connection.write_all(format!("GET /test?seed={seed} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    eprintln!("{answer}");
    let last = answer.trim_end().lines().last().unwrap_or_default();
    let tried = answer.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(last == format!("{tried} passed, 0 failed") && tried > 0, "seed {seed}: {answer}\n{}", nginx.log());
    for file in fs::read_dir(dir.path().join("tests")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix("_test.lua") else { continue };
        assert!(answer.contains(&format!("ok   {module}: ")), "{name} was not run");
    }
    assert!(files >= 10, "{files} files of tests");
}
