//! What a file's rows may be and what is said of those that are wrong.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::stock::import::{MAX_ROW_ERRORS, MAX_ROWS};

const HEAD: &str = "sku,name,price,currency,stock,limit,initial_tier,pages\n";

fn errors(text: impl AsRef<[u8]>) -> Vec<String> {
    match catalogue(text.as_ref()) {
        Err(Unreadable::Rows(errors)) => {
            errors.first.iter().map(|e| format!("{} {}: {}", e.row, e.column, e.why)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn rows(text: &str) -> Vec<String> {
    errors(format!("{HEAD}{text}"))
}

#[test]
fn a_file_is_read_whatever_the_order_of_its_columns_the_ends_of_its_lines_and_its_bom() {
    let text = "\u{feff}limit, price ,currency,stock,sku,pages,name\r\n\r\n2,1990,EUR,5,lamp,,\"Lamp, \"\"red\"\"\"\r\n1,5,EUR,0,vase,v-1  v-2,Vase";
    let read = catalogue(text.as_bytes()).unwrap();
    let shown: Vec<_> = read
        .iter()
        .map(|(line, p)| format!("{line} {} {} {} {} {} {:?}", p.sku, p.name, p.price, p.stock, p.limit, p.pages))
        .collect();
    insta::assert_debug_snapshot!(shown, @r#"
    [
        "3 lamp Lamp, \"red\" 1990 EUR (minor units) 5 2 [PageId(lamp)]",
        "4 vase Vase 5 EUR (minor units) 0 1 [PageId(v-1), PageId(v-2)]",
    ]
    "#);
}

#[test]
fn each_wrong_row_is_told_with_its_line_and_column() {
    let text = "lamp,Lamp,0,EUR,5,2,,\n\
        lamp2,Lamp,-5,EUR,5,2,,\n\
        lamp3,Lamp,19.90,EUR,x,2,,\n\
        a b,Lamp,1,EUR,5,2,,\n\
        ok,Lamp,1,EUR,5,2,redis,page\n\
        ok,Lamp,1,EUR,5,2,gold,\n\
        ok,Lamp,1,EUR,5,2,,other\n\
        ok2,Lamp,1,USD,5,2,,page\n\
        ok3,Lamp,1,euro,5,0,,\n\
        ok4,Lamp,1,EUR,5\n\
        \n\
        ok5,,1,EUR,5,1001,,a/b\n\
        ok6,\"open,1,EUR,5,2,,\n\
        ok7,tab\u{7}bell,1,EUR,5,2,,\n\
        ok8,Lamp,9223372036854775808,EUR,1000000001,2,,";
    insta::assert_debug_snapshot!(rows(text), @r#"
    [
        "2 price: is 0; give minor units (cents) above 0",
        "3 price: \"-5\" is negative; a price is above 0",
        "4 price: \"19.90\" is not a whole number of minor units (1990 for 19.90)",
        "4 stock: \"x\" is not a number of units",
        "5 sku: holds the byte ' '; only letters, digits and . _ ~ - are allowed",
        "7 initial_tier: \"gold\" is none of db, redis, queue",
        "8 sku: ok stands in row 6 already",
        "9 currency: USD is not EUR of the rows before; a sale has one",
        "9 pages: page stands in row 6 already",
        "10 currency: \"euro\" is not an ISO 4217 code such as EUR",
        "11 : has 5 cells where the header names 8 columns",
        "13 name: must have 1 to 200 bytes",
        "14 : a quote is not closed; a cell stands on one line",
        "15 : holds a control character",
        "16 stock: 1000000001 is above 1000000000",
    ]
    "#);
}

#[test]
fn a_wrong_header_ends_it() {
    let told: Vec<_> = [
        "",
        "\n\n",
        "sku;name;price;currency;stock;limit\nlamp;Lamp;1;EUR;5;2",
        "sku,name,price,currency,stock\n",
        "sku,sku,name,price,currency,stock,limit,colour\n",
        HEAD,
    ]
    .into_iter()
    .map(errors)
    .collect();
    insta::assert_debug_snapshot!(told, @r#"
    [
        [
            "1 : the file is empty; its first line names the columns",
        ],
        [
            "1 : the file is empty; its first line names the columns",
        ],
        [
            "1 sku;name;price;currency;stock;limit: is no column; there are sku, name, price, currency, stock, limit, initial_tier, pages",
            "1 sku: is missing; columns are parted by commas",
            "1 name: is missing; columns are parted by commas",
            "1 price: is missing; columns are parted by commas",
            "1 currency: is missing; columns are parted by commas",
            "1 stock: is missing; columns are parted by commas",
            "1 limit: is missing; columns are parted by commas",
        ],
        [
            "1 limit: is missing; columns are parted by commas",
        ],
        [
            "1 sku: appears twice",
            "1 colour: is no column; there are sku, name, price, currency, stock, limit, initial_tier, pages",
        ],
        [
            "1 : the file has no rows under its header",
        ],
    ]
    "#);
    assert_eq!(errors(b"\xff\xfes\0k\0u\0"), ["1 : the file is UTF-16; save it as CSV in UTF-8"]);
    let latin = [HEAD.as_bytes(), b"lamp,L\xe4mp,1,EUR,5,2,,\n"].concat();
    assert_eq!(errors(latin), ["2 : is not UTF-8 after 6 bytes"]);
}

#[test]
fn errors_and_rows_are_bounded() {
    let bad = |n: usize| format!("{HEAD}{}", "x\n".repeat(n));
    match catalogue(bad(MAX_ROW_ERRORS + 7).as_bytes()) {
        Err(Unreadable::Rows(errors)) => assert_eq!((errors.first.len(), errors.more), (MAX_ROW_ERRORS, 7)),
        other => panic!("{other:?}"),
    }
    let good = |n: usize| HEAD.to_owned() + &(0..n).map(|i| format!("p{i},P,1,EUR,1,1,,\n")).collect::<String>();
    assert_eq!(catalogue(good(MAX_ROWS).as_bytes()).unwrap().len(), MAX_ROWS);
    assert_eq!(catalogue(good(MAX_ROWS + 1).as_bytes()), Err(Unreadable::TooManyRows));
}

#[test]
fn adjustments_are_read() {
    let read = stock(b"sku,delta,reason\nlamp,5,counted again\nvase,-2,\"broken, two\"\n").unwrap();
    let shown: Vec<_> =
        read.iter().map(|r| format!("{} {} {} {}", r.row, r.product, r.delta, r.reason.as_str())).collect();
    assert_eq!(shown, ["2 lamp 5 counted again", "3 vase -2 broken, two"]);
    let Err(Unreadable::Rows(errors)) = stock(b"sku,delta,reason\nlamp,0,x\nlamp,1,\nlamp,1.5,x\nlamp,1,x\nlamp,2,y\n")
    else {
        panic!("it is wrong")
    };
    let shown: Vec<_> = errors.first.iter().map(|e| format!("{} {}: {}", e.row, e.column, e.why)).collect();
    insta::assert_debug_snapshot!(shown, @r#"
    [
        "2 delta: \"0\" is not a number of units, below or above 0",
        "3 reason: is empty; say why the stock changes",
        "4 delta: \"1.5\" is not a number of units, below or above 0",
        "6 sku: lamp stands in row 5 already",
    ]
    "#);
}

proptest! {
    /// Whatever the bytes are, there is an answer.
    #[test]
    fn no_file_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let text = if head { [HEAD.as_bytes(), &bytes].concat() } else { bytes };
        let _read = catalogue(&text);
        let _read = stock(&text);
    }
}
