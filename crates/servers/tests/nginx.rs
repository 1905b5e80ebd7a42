//! Nginx as a child: Lua runs, workers go with their master, a new configuration is taken, a wrong one is not.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use servers::{Nginx, ServerError};

const CONFIG: &str = r#"
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
worker_processes 2;
events { worker_connections 64; }
http {
    @TEMPORARY@
    access_log @DIR@/access.log;
    server {
        listen 127.0.0.1:@PORT@;
        location / { content_by_lua_block { ngx.say(require("cjson").encode({ said = "SAID" })) } }
    }
}
"#;

fn get(nginx: &Nginx) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", nginx.port()))?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_answers_with_lua_is_killed_restarted_paused_and_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut nginx = Nginx::start(dir.path(), &CONFIG.replace("SAID", "one")).unwrap();
    assert!(get(&nginx).unwrap().contains(r#"{"said":"one"}"#));
    nginx.kill();
    assert!(get(&nginx).is_err(), "its workers are gone too");
    nginx.restart().unwrap();
    assert!(get(&nginx).unwrap().contains("one"));
    nginx.pause();
    assert!(get(&nginx).is_err(), "its workers are paused too");
    nginx.resume();
    assert!(get(&nginx).unwrap().contains("one"));
    let refused = nginx.reload("no_such_directive;").unwrap_err();
    assert!(refused.to_string().contains("no_such_directive"), "{refused}");
    assert!(get(&nginx).unwrap().contains("one"));
    nginx.reload(&CONFIG.replace("SAID", "two")).unwrap();
    let asked = Instant::now();
    while !get(&nginx).unwrap().contains("two") {
        assert!(asked.elapsed() < Duration::from_secs(30));
    }
    assert!(std::fs::read_to_string(dir.path().join("access.log")).unwrap().contains("GET /"));
}

#[test]
fn a_failed_start_shows_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let error = Nginx::start(dir.path(), "no_such_directive;").err().unwrap();
    assert!(matches!(error, ServerError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no_such_directive"), "{error}");
}
