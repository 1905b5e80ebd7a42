//! `seckill demo --edge`: a real Nginx with the files of `edge/` in front of the demo's core, started as a child and gone
//! with it. Shoppers come through it, and the log that the collector reads is its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use servers::{Edge, EdgeCore, EdgeOptions};

use crate::secrets::SecretFiles;

/// What stands in for the shop's own pages: enough for the log to say what shops' logs say.
const SHOP: &str = r#"
location / {
    access_by_lua_block { require("edge.door").note() }
    root pages;
    try_files /page.html =404;
}
location /cart/ {
    access_by_lua_block { require("edge.door").note() }
    content_by_lua_block { ngx.status = 204 }
}
"#;
const PAGE: &str =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>A shop</title><h1>A product</h1></html>\n";

/// The running edge. Dropping it stops it.
pub struct DemoEdge(Edge);

impl DemoEdge {
    /// Starts it under `data` in front of one core, writing to `log`; blocks until it listens.
    pub fn start(
        data: &Path,
        files: &SecretFiles,
        public: SocketAddr,
        private: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let data = data.canonicalize()?;
        let secret = |name: &str, file: &Option<PathBuf>| match file {
            Some(file) => file.clone(),
            None => data.join("secrets").join(name),
        };
        let options = EdgeOptions {
            name: "demo".to_owned(),
            cores: vec![EdgeCore { public: public.to_string(), private: private.to_string() }],
            token_file: secret("edge", &files.edge_file),
            hash_key_file: secret("visitor", &files.visitor_file),
            issuer_file: secret("issuer", &files.issuer_file),
            // The demo's shoppers are many people on one machine.
            trusted: vec!["127.0.0.1".to_owned()],
            certificate: None,
            client_calls: 500,
            buyer_calls: 5,
            workers: 1,
            refuse_bots: true,
            log: Some(data.join(log.file_name().unwrap_or_default())),
            shop: SHOP.to_owned(),
        };
        let edge = Edge::start(&data.join("edge"), &options)?;
        std::fs::write(edge.directory().join("pages/page.html"), PAGE)?;
        Ok(Self(edge))
    }

    /// Where shoppers come in.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// What runs where, for the reader of the demo's output.
    pub fn addresses(&self) -> Vec<String> {
        vec![
            format!("edge            {}", self.0.url()),
            format!("edge metrics    http://127.0.0.1:{}/metrics", self.0.private_port()),
        ]
    }
}
