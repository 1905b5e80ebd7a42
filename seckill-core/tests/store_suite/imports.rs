//! Stories of imports: all of a file or nothing, each stock import once, whatever the size.

use std::sync::Arc;

use seckill_core::stock::admin_store::{Act, ActEnd, Acted};
use seckill_core::stock::import::{CatalogueImport, ImportId, Imported, MAX_ROWS, StockImport, StockRow};
use types::sale::Window;
use types::{ProductSpec, SaleName, Tier};

use super::admin::mia;
use super::*;

fn catalogue(rows: Vec<ProductSpec>) -> CatalogueImport {
    let window = Window { opens: OPENS, closes: CLOSES };
    let rows = (2..).zip(rows).collect();
    CatalogueImport {
        sale: SaleName::new("sale").unwrap(),
        window: Some(("Europe/Berlin".into(), window)),
        rows,
        dry_run: false,
    }
}

fn stock(id: &str, rows: &[(&str, i64)]) -> StockImport {
    let row = |(row, (name, delta)): (u64, &(&str, i64))| StockRow {
        row,
        product: sku(name),
        delta: NonZeroI64::new(*delta).unwrap(),
        reason: Reason::new("counted again").unwrap(),
    };
    let text = format!("{rows:?}");
    let mut file = [0; 32];
    text.bytes().enumerate().for_each(|(i, b)| file[i % 32] ^= b.rotate_left(u32::try_from(i / 32).unwrap()));
    StockImport {
        id: ImportId::new(IdempotencyKey::new(id).unwrap()).unwrap(),
        file: BodyHash(file),
        sale: SaleName::new("sale").unwrap(),
        rows: (2..).zip(rows).map(row).collect(),
        by: "mia".into(),
        dry_run: false,
    }
}

async fn imported(shop: &Shop, act: Act) -> Imported {
    match shop.store.administer(act, mia(), NOW).await.unwrap() {
        Acted::Imported(imported) => imported,
        other => panic!("{other:?}"),
    }
}

fn told(imported: Imported) -> Vec<String> {
    match imported {
        Imported::Rows(errors) => errors.first.iter().map(|e| format!("{} {}", e.row, e.column)).collect(),
        other => panic!("{other:?}"),
    }
}

const BOOKS: &str = "SELECT p.product_id, p.name, p.price, p.stock, k.total, k.free FROM product p \
                     JOIN stock k ON k.product_id = p.product_id ORDER BY p.product_id";

pub async fn a_catalogue_is_imported_whole_or_not_at_all(place: Arc<dyn Place>) {
    let shop = Shop { store: place.open(), place };
    let dry = CatalogueImport { dry_run: true, ..catalogue(vec![spec("a", 5, 2)]) };
    assert!(matches!(imported(&shop, Act::ImportCatalogue(dry)).await, Imported::Done { new_sale: true, .. }));
    assert!(shop.place.rows("SELECT name FROM sale").is_empty(), "a dry run changes nothing");
    let first = catalogue(vec![spec("a", 5, 2), spec("b", 0, 1)]);
    let done = imported(&shop, Act::ImportCatalogue(first.clone())).await;
    assert!(matches!(done, Imported::Done { new_sale: true, counts, .. } if counts.created == 2 && counts.added == 5));
    let same = imported(&shop, Act::ImportCatalogue(first)).await;
    assert!(matches!(same, Imported::Done { new_sale: false, counts, .. } if counts.unchanged == 2), "{same:?}");

    // What is not in the file stays; what is wrong is told of every row, and nothing is done.
    let cheaper = ProductSpec { price: euros(99), ..spec("b", 0, 1) };
    let changed = imported(&shop, Act::ImportCatalogue(catalogue(vec![cheaper, spec("c", 1, 1)]))).await;
    assert!(matches!(changed, Imported::Done { counts, .. } if (counts.changed, counts.created) == (1, 1)));
    shop.accept(attempt(1)).await;
    let before = shop.place.rows(BOOKS);
    assert_eq!(before.len(), 3);
    let pages = ProductSpec { pages: vec!["a".parse().unwrap()], ..spec("e", 1, 1) };
    let dollars = Money::new(5, "USD".parse().unwrap()).unwrap();
    let foreign = ProductSpec { price: dollars, ..spec("f", 1, 1) };
    let wrong = vec![spec("b", 7, 1), spec("d", 1, 1), pages, foreign, ProductSpec { limit: 0, ..spec("g", 1, 1) }];
    let refused = imported(&shop, Act::ImportCatalogue(catalogue(wrong))).await;
    assert_eq!(told(refused), ["2 stock", "4 pages", "5 currency", "6 limit"]);
    let moved = CatalogueImport {
        window: Some(("Europe/Berlin".into(), Window { opens: NOW, closes: CLOSES })),
        ..catalogue(vec![spec("d", 1, 1)])
    };
    assert!(
        matches!(imported(&shop, Act::ImportCatalogue(moved)).await, Imported::Refused(why) if why.starts_with("opens"))
    );
    assert_eq!(shop.place.rows(BOOKS), before);
    let lines = shop.store.audit_lines(0, 100).await.unwrap();
    let ends: Vec<_> = lines.iter().map(|line| line.end).collect();
    assert_eq!(ends, [ActEnd::Done, ActEnd::Unchanged, ActEnd::Done, ActEnd::Refused, ActEnd::Refused]);
    let change = &lines[2].detail;
    assert_eq!(
        (&change["before"]["products"]["b"]["price"], &change["after"]["products"]["b"]["price"]),
        (&250.into(), &99.into())
    );
    shop.check();
}

pub async fn a_stock_import_takes_effect_once(place: Arc<dyn Place>) {
    let shop = Shop { store: place.open(), place };
    imported(&shop, Act::ImportCatalogue(catalogue(vec![spec("a", 9, 2), spec("b", 4, 1), spec("c", 0, 1)]))).await;
    shop.accept(attempt(1)).await;
    shop.lend(1).await;
    let import = stock("i-1", &[("a", -7), ("b", -4), ("c", 3)]);
    let dry = StockImport { dry_run: true, ..import.clone() };
    assert!(matches!(imported(&shop, Act::ImportStock(dry)).await, Imported::Done { repeated: false, .. }));
    for repeat in [false, true, true] {
        match imported(&shop, Act::ImportStock(import.clone())).await {
            Imported::Done { counts, repeated, .. } => {
                assert_eq!((counts.rows, counts.added, counts.removed, repeated), (3, 3, 11, repeat));
            }
            other => panic!("{other:?}"),
        }
    }
    let totals = || shop.place.rows("SELECT total FROM stock ORDER BY product_id").join(" ");
    assert!(totals().contains('2') && totals().contains('0') && totals().contains('3'), "{}", totals());
    assert_eq!(shop.product().await.state.total, 2, "also what was lent");
    let other = StockImport { id: import.id.clone(), ..stock("x", &[("c", 1)]) };
    assert_eq!(imported(&shop, Act::ImportStock(other)).await, Imported::OtherFile);
    let before = totals();
    let wrong = stock("i-2", &[("c", 1), ("a", -2), ("nothing", 1), ("b", 2_000_000_000)]);
    assert_eq!(told(imported(&shop, Act::ImportStock(wrong)).await), ["3 delta", "4 sku", "5 delta"]);
    let nowhere = StockImport { sale: SaleName::new("nowhere").unwrap(), ..stock("i-3", &[("c", 1)]) };
    assert_eq!(imported(&shop, Act::ImportStock(nowhere)).await, Imported::UnknownSale);
    assert_eq!(totals(), before);
    shop.check();
}

pub async fn the_largest_file_is_one_transaction(place: Arc<dyn Place>) {
    let shop = Shop { store: place.open(), place };
    let names: Vec<_> = (0..MAX_ROWS).map(|n| format!("p-{n}")).collect();
    let many = names.iter().map(|name| spec(name, 1, 1)).collect();
    let done = imported(&shop, Act::ImportCatalogue(catalogue(many))).await;
    assert!(matches!(done, Imported::Done { counts, .. } if counts.created == MAX_ROWS as u64), "{done:?}");
    let rows: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let done = imported(&shop, Act::ImportStock(stock("big", &rows))).await;
    assert!(matches!(done, Imported::Done { counts, .. } if counts.added == 2 * MAX_ROWS as u64), "{done:?}");
    assert!(shop.place.rows("SELECT COUNT(*) FROM stock WHERE total = 3 AND free = 3")[0].contains("10000"));
    assert_eq!(shop.store.product(&sku("p-77")).await.unwrap().unwrap().state.tier, Tier::Db);
}
