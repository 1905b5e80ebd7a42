//! A sale from its file to its close by the commands that the README names, on the real program: what they print, what
//! they end with, and what the auditor says afterwards.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod town;

use std::fs;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use town::Town;

/// A command against the town's admin listener: its exit code, what it printed, what it complained of.
fn seckill(town: &Town, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        town.seckill().args(arguments).args(["--admin", &town.base("admin")]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A command that must end well; what it printed.
fn done(town: &Town, arguments: &[&str]) -> String {
    let (code, out, err) = seckill(town, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out} {err}");
    out
}

fn json_of(town: &Town, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(town, &[arguments, &["--output", "json"]].concat())).unwrap()
}

/// A customer buys one unit.
async fn buy(town: &Town, buyer: &str, product: &str) -> u16 {
    let path = format!("/v1/sales/friday/products/{product}/purchases");
    let call = town.http.post(town.url("public", &path)).bearer_auth(town.token(buyer, &[types::Role::Shopper]));
    let call = call.header("Idempotency-Key", "one").header("Prefer", "wait=5").json(&json!({"quantity": 1}));
    call.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_run_from_the_command_line() {
    let town = Town::embedded("");
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let (catalogue, stock) = (format!("{examples}/catalogue.csv"), format!("{examples}/stock.csv"));
    let window = ["--zone", "Europe/Berlin", "--opens", "2026-01-01T00:00:00", "--closes", "2036-01-01T00:00:00"];
    let import = [&["import", "catalogue", &catalogue, "--sale", "friday"], &window[..]].concat();

    // Seen before it is done, then done; a second time it changes nothing.
    assert_eq!(done(&town, &["sale", "ls"]).lines().count(), 1, "a header and nothing");
    insta::assert_snapshot!(done(&town, &[&import[..], &["--dry-run"]].concat()), @r"
    dry run, nothing changed; friday: 3 rows, a new sale
    products: 3 created, 0 returned, 0 changed, 0 unchanged
    units:    1700 added, 0 removed
    ");
    assert_eq!(seckill(&town, &["sale", "show", "friday"]).0, 1, "nothing was made");
    let made = json_of(&town, &import);
    assert_eq!((&made["new_sale"], &made["created"], &made["added"]), (&json!(true), &json!(3), &json!(1700)));
    assert_eq!(json_of(&town, &import)["unchanged"], 3);
    insta::assert_snapshot!(done(&town, &["sale", "show", "friday"]), @r"
    friday is active
    opens   2025-12-31T23:00:00.000Z (2026-01-01T00:00:00 in Europe/Berlin)
    closes  2035-12-31T23:00:00.000Z (2036-01-01T00:00:00 in Europe/Berlin)

    SKU          NAME                 PRICE      LIMIT  TIER  TOTAL  SELLABLE  RESERVED  SOLD
    cup-set-6    Cups, set of six     1990 EUR       4  db     1000      1000         0     0
    espresso-x1  Espresso machine X1  34900 EUR      1  db      200       200         0     0
    grinder-g2   Grinder G2           8900 EUR       2  db      500       500         0     0
    ");

    // Restocked and reduced while it sells, once for one file.
    assert_eq!(buy(&town, "ann", "grinder-g2").await, 201);
    let file = town.data().join("wrong.csv");
    fs::write(&file, "sku,delta,reason\ngrinder-g2,-500,broken\nyacht,1,found\ncup-set-6,0,\n").unwrap();
    let (code, out, err) = seckill(&town, &["import", "stock", &file.display().to_string(), "--sale", "friday"]);
    assert_eq!((code, out.as_str()), (1, ""));
    insta::assert_snapshot!(err.replace(&file.display().to_string(), "wrong.csv"), @r#"
    refused: 2 rows or cells are wrong; nothing was changed (invalid-rows)
    wrong.csv:4: delta: "0" is not a number of units, below or above 0
    wrong.csv:4: reason: is empty; say why the stock changes
    "#);
    fs::write(&file, "sku,delta,reason\ngrinder-g2,-500,broken\nyacht,1,found\n").unwrap();
    let (code, _, err) = seckill(&town, &["import", "stock", &file.display().to_string(), "--sale", "friday"]);
    assert_eq!(code, 1);
    assert!(err.contains("wrong.csv:2: delta: all but 499 units are sold or reserved"), "{err}");
    assert!(err.contains("wrong.csv:3: sku: yacht is not in sale friday"), "{err}");
    let import = ["import", "stock", &stock, "--sale", "friday"];
    assert!(done(&town, &import).ends_with("units:    50 added, 12 removed"));
    assert!(done(&town, &import).ends_with("to do it again, name it anew by --key"));
    let again = json_of(&town, &[&import[..], &["--key", "second"]].concat());
    assert_eq!((&again["repeated"], &again["added"]), (&json!(false), &json!(50)));
    let mut piped = town.seckill();
    piped.args(["import", "stock", "-", "--sale", "friday", "--admin", &town.base("admin")]);
    let piped = piped_in(piped.stdin(Stdio::piped()).stdout(Stdio::piped()), "sku,delta,reason\ngrinder-g2,1,found\n");
    assert!(piped.status.success());

    // Paused, resumed, changed by a file, cloned, closed.
    assert_eq!(done(&town, &["sale", "pause", "friday"]), "friday is paused");
    assert_eq!(buy(&town, "ben", "grinder-g2").await, 503);
    assert_eq!(done(&town, &["sale", "resume", "friday"]), "friday is active");
    assert_eq!(buy(&town, "ben", "grinder-g2").await, 201);
    assert_eq!(json_of(&town, &["sale", "apply", &format!("{examples}/sale.toml")])["sale"], "autumn");
    let wrong = town.data().join("sale.toml");
    let text = fs::read_to_string(format!("{examples}/sale.toml")).unwrap();
    fs::write(&wrong, text.replace("2036-01-01T00:00:00", "2027-03-28T02:30:00")).unwrap();
    let (code, _, err) = seckill(&town, &["sale", "apply", &wrong.display().to_string()]);
    assert_eq!(code, 1);
    assert!(err.contains("closes: there is no 2027-03-28T02:30:00 in Europe/Berlin"), "{err}");
    let clone = ["sale", "clone", "friday", "monday", "--opens", "2027-06-01T09:00:00", "--closes"];
    let (code, _, err) = seckill(&town, &[&clone[..], &["2027-06-01T08:00:00", "--sku-suffix", "-b"]].concat());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("is not after opens"), "{err}");
    let clone = [&clone[..], &["2027-06-01T10:00:00", "--sku-suffix", "-b"]].concat();
    assert_eq!(done(&town, &clone), "monday is active");
    let (code, out, _) = seckill(&town, &["sale", "pause", "tuesday", "--output", "json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["status"].clone()), (1, json!(404)));
    assert_eq!(done(&town, &["sale", "close", "friday"]), "friday is closed");
    assert_eq!(seckill(&town, &["sale", "resume", "friday"]).0, 1, "for ever");
    let shown = json_of(&town, &["sale", "show", "friday"]);
    let units = |n: usize| (shown["products"][n]["total"].clone(), shown["products"][n]["reserved"].clone());
    let (cups, espresso, grinder) = (units(0), units(1), units(2));
    assert_eq!((cups.0, espresso.0, grinder), (json!(976), json!(300), (json!(501), json!(2))));

    // Its products go on to another sale: the lines of the README, in their order.
    let returned = json_of(&town, &["import", "catalogue", &catalogue, "--sale", "autumn"]);
    assert_eq!((&returned["returned"], &returned["new_sale"]), (&json!(3), &json!(false)));
    assert!(done(&town, &["import", "stock", &stock, "--sale", "autumn"]).ends_with("units:    50 added, 12 removed"));
    let listed = json_of(&town, &["sale", "ls"]);
    let names: Vec<_> = listed["sales"].as_array().unwrap().iter().map(|s| s["sale"].as_str().unwrap()).collect();
    assert_eq!(names, ["autumn", "monday"]);

    // As whom: a viewer looks and changes nothing; nobody at the other end is no refusal.
    let viewer = town.run(&["token", "--role", "viewer"]);
    assert_eq!(seckill(&town, &["sale", "ls", "--token", &viewer]).0, 0);
    let (code, _, err) = seckill(&town, &["sale", "pause", "autumn", "--token", &viewer]);
    assert!(code == 1 && err.contains("(forbidden)"), "{code} {err}");
    let nowhere = town.seckill().args(["sale", "ls", "--admin", "http://127.0.0.1:9"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("cannot reach the admin listener"));
    assert_eq!(seckill(&town, &["import", "stock", "no-such-file", "--sale", "autumn"]).0, 2);
    assert_eq!(
        seckill(&town, &["import", "catalogue", &catalogue, "--sale", "x", "--zone", "UTC"]).0,
        2,
        "half a window"
    );

    println!("{}", town.run(&["audit"]));
}

fn piped_in(command: &mut std::process::Command, text: &str) -> Output {
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
