//! Which pages may open a connection. A browser says where its page came from; that is all that keeps a foreign page
//! from using what the browser would send by itself.

/// Whether a connection with this `Origin` to this `Host` is taken. Who says no origin is no browser.
pub(crate) fn allowed(origin: Option<&[u8]>, host: Option<&[u8]>, listed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if listed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin)) {
        return true;
    }
    let own = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
    matches!((own, host), (Some(own), Some(host)) if !own.is_empty() && own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_host_and_the_listed_ones_may_connect() {
        let listed = ["https://shop.example".to_owned()];
        let says =
            |origin: Option<&str>, host: &str| allowed(origin.map(str::as_bytes), Some(host.as_bytes()), &listed);
        assert!(says(None, "core.local"), "no browser");
        assert!(says(Some("https://shop.example"), "core.local"));
        assert!(says(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"));
        for foreign in
            ["https://evil.example", "https://shop.example.evil.example", "null", "", "http://", "shop.example"]
        {
            assert!(!says(Some(foreign), "core.local"), "{foreign}");
        }
        assert!(!says(Some("http://127.0.0.1:9090"), "127.0.0.1:8080"), "another port is another origin");
        assert!(!allowed(Some(b"\xff\xfe"), None, &listed));
    }
}
