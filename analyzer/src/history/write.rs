//! Heat rows as a Parquet file that everybody reads: every column through a dictionary, zstd, pages that hold the same
//! rows in every column, with statistics, page index and sort order. It writes bytes and knows no directory.

use std::hash::Hash;
use std::io::{self, Write};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::runs;
use super::thrift::Writer;
use crate::tables::HeatRow;

/// Rows of one page: what a reader skips or reads at least. DuckDB and Spark take such pages too.
pub(super) const PAGE_ROWS: usize = 16 * 1024;
/// Rows of one row group: what is held in memory while writing, and what readers share among threads.
pub(super) const GROUP_ROWS: usize = 1024 * 1024;
/// zstd's own default: higher levels cost more time than they save here.
const LEVEL: i32 = 3;

pub(super) const MAGIC: &[u8; 4] = b"PAR1";

/// Parquet's numbers for types, as they are used here.
pub(super) mod number {
    pub(in crate::history) const INT64: i32 = 2;
    pub(in crate::history) const BYTE_ARRAY: i32 = 6;
    pub(in crate::history) const PLAIN: i32 = 0;
    pub(in crate::history) const RLE: i32 = 3;
    pub(in crate::history) const RLE_DICTIONARY: i32 = 8;
    pub(in crate::history) const ZSTD: i32 = 6;
    pub(in crate::history) const DATA_PAGE: i32 = 0;
    pub(in crate::history) const DICTIONARY_PAGE: i32 = 2;
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Milliseconds, UTC.
    Time,
    Text,
    Whole,
}

/// The columns of every file, in order.
pub(super) const COLUMNS: [(&str, Holds); 6] = [
    ("__time", Holds::Time),
    ("product", Holds::Text),
    ("kind", Holds::Text),
    ("events", Holds::Whole),
    ("weighted", Holds::Whole),
    ("visitors", Holds::Whole),
];

#[derive(Debug)]
struct Page {
    offset: i64,
    size: i32,
    first: i64,
    least: Vec<u8>,
    most: Vec<u8>,
}

#[derive(Debug)]
struct Chunk {
    dictionary: i64,
    data: i64,
    values: i64,
    plain: i64,
    packed: i64,
    least: Vec<u8>,
    most: Vec<u8>,
    pages: Vec<Page>,
}

/// Writes a file, row group by row group.
pub(super) struct FileWriter<W> {
    out: W,
    at: i64,
    groups: Vec<Vec<Chunk>>,
    zstd: zstd::bulk::Compressor<'static>,
}

/// A column's values once each, and which of them stands where.
struct Coded {
    /// As PLAIN writes them.
    plain: Vec<u8>,
    count: usize,
    codes: Vec<u32>,
    /// How each value is written in statistics.
    stats: Vec<Vec<u8>>,
}

fn code<T: Hash + Eq + Copy>(values: impl Iterator<Item = T>) -> (Vec<T>, Vec<u32>) {
    let mut known: HashMap<T, u32, FxBuildHasher> = HashMap::default();
    let mut all = Vec::new();
    let codes = values
        .map(|v| {
            *known.entry(v).or_insert_with(|| {
                all.push(v);
                (all.len() - 1) as u32
            })
        })
        .collect();
    (all, codes)
}

fn whole(values: impl Iterator<Item = i64>) -> Coded {
    let (all, codes) = code(values);
    let stats: Vec<Vec<u8>> = all.iter().map(|n| n.to_le_bytes().to_vec()).collect();
    Coded { plain: stats.concat(), count: all.len(), codes, stats }
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Coded {
    let (all, codes) = code(values);
    let mut plain = Vec::new();
    for text in &all {
        plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
        plain.extend_from_slice(text.as_bytes());
    }
    Coded { plain, count: all.len(), codes, stats: all.iter().map(|t| t.as_bytes().to_vec()).collect() }
}

fn coded(rows: &[HeatRow], column: usize) -> Coded {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match column {
        0 => whole(rows.iter().map(|r| r.time.millis())),
        1 => texts(rows.iter().map(|r| &*r.page)),
        2 => texts(rows.iter().map(|r| r.kind.as_str())),
        3 => whole(rows.iter().map(|r| signed(r.events))),
        4 => whole(rows.iter().map(|r| signed(r.weighted))),
        _ => whole(rows.iter().map(|r| signed(r.visitors))),
    }
}

/// Least and most in the column's own order: numbers as numbers, texts by their bytes.
fn ends(stats: &[Vec<u8>], codes: &[u32], holds: Holds) -> (Vec<u8>, Vec<u8>) {
    let number = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap_or_default());
    let of = |c: u32| &stats[c as usize];
    let ends = if holds == Holds::Text {
        codes.iter().map(|c| of(*c)).min().zip(codes.iter().map(|c| of(*c)).max())
    } else {
        let by = |c: &&Vec<u8>| number(c);
        codes.iter().map(|c| of(*c)).min_by_key(by).zip(codes.iter().map(|c| of(*c)).max_by_key(by))
    };
    ends.map_or_else(Default::default, |(a, b)| (a.clone(), b.clone()))
}

impl<W: Write> FileWriter<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, at: 4, groups: Vec::new(), zstd: zstd::bulk::Compressor::new(LEVEL)? })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as i64;
        Ok(())
    }

    /// Writes a page; its offset, its size with the header, and its size unpacked with the header.
    fn page(&mut self, kind: i32, values: usize, body: &[u8]) -> io::Result<(i64, i64, i64)> {
        let packed = self.zstd.compress(body)?;
        let mut head = Writer::default();
        head.i32(1, kind).i32(2, body.len() as i32).i32(3, packed.len() as i32);
        if kind == number::DICTIONARY_PAGE {
            head.nested(7, |w| {
                w.i32(1, values as i32).i32(2, number::PLAIN);
            });
        } else {
            head.nested(5, |w| {
                w.i32(1, values as i32).i32(2, number::RLE_DICTIONARY).i32(3, number::RLE).i32(4, number::RLE);
            });
        }
        let head = head.finish();
        let offset = self.at;
        self.put(&head)?;
        self.put(&packed)?;
        Ok((offset, (head.len() + packed.len()) as i64, (head.len() + body.len()) as i64))
    }

    /// Writes rows, sorted by time and product, as one row group; at most `GROUP_ROWS`.
    pub(super) fn group(&mut self, rows: &[HeatRow]) -> io::Result<()> {
        let mut chunks = Vec::new();
        for (column, (_, holds)) in COLUMNS.iter().enumerate() {
            let coded = coded(rows, column);
            let width = runs::width(coded.count);
            let (dictionary, mut packed, mut plain) = self.page(number::DICTIONARY_PAGE, coded.count, &coded.plain)?;
            let data = self.at;
            let mut pages = Vec::new();
            for (at, codes) in coded.codes.chunks(PAGE_ROWS).enumerate() {
                let mut body = vec![width];
                runs::encode(codes, width, &mut body);
                let (offset, size, unpacked) = self.page(number::DATA_PAGE, codes.len(), &body)?;
                packed += size;
                plain += unpacked;
                let (least, most) = ends(&coded.stats, codes, *holds);
                pages.push(Page { offset, size: size as i32, first: (at * PAGE_ROWS) as i64, least, most });
            }
            let (least, most) = ends(&coded.stats, &coded.codes, *holds);
            chunks.push(Chunk { dictionary, data, values: rows.len() as i64, plain, packed, least, most, pages });
        }
        self.groups.push(chunks);
        Ok(())
    }

    /// Writes page indexes and footer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let groups = std::mem::take(&mut self.groups);
        // (offset, length) of the column index and the offset index of each chunk.
        let mut places = Vec::new();
        for chunk in groups.iter().flatten() {
            // Only the times are in order from page to page.
            let sorted = places.len() % COLUMNS.len() == 0;
            let mut w = Writer::default();
            let pages = &chunk.pages;
            w.flags(1, &vec![false; pages.len()])
                .texts(2, &pages.iter().map(|p| &p.least).collect::<Vec<_>>())
                .texts(3, &pages.iter().map(|p| &p.most).collect::<Vec<_>>())
                .i32(4, i32::from(sorted))
                .i64s(5, &vec![0; pages.len()]);
            let bytes = w.finish();
            places.push([(self.at, bytes.len() as i32); 2]);
            self.put(&bytes)?;
        }
        for (chunk, place) in groups.iter().flatten().zip(&mut places) {
            let mut w = Writer::default();
            w.structs(1, &chunk.pages, |w, p| {
                w.i64(1, p.offset).i32(2, p.size).i64(3, p.first);
            });
            let bytes = w.finish();
            place[1] = (self.at, bytes.len() as i32);
            self.put(&bytes)?;
        }
        let footer = footer(&groups, &places);
        self.put(&footer)?;
        self.put(&(footer.len() as u32).to_le_bytes())?;
        self.put(MAGIC)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn footer(groups: &[Vec<Chunk>], places: &[[(i64, i32); 2]]) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32(1, 2);
    let schema: Vec<Option<(&str, Holds)>> = std::iter::once(None).chain(COLUMNS.into_iter().map(Some)).collect();
    w.structs(2, &schema, |w, element| match element {
        None => {
            w.bytes(4, b"product_heat").i32(5, COLUMNS.len() as i32);
        }
        Some((name, holds)) => {
            w.i32(1, if *holds == Holds::Text { number::BYTE_ARRAY } else { number::INT64 });
            // Required: nothing is ever null.
            w.i32(3, 0).bytes(4, name.as_bytes());
            match holds {
                Holds::Text => {
                    w.i32(6, 0).nested(10, |w| {
                        w.nested(1, |_| {});
                    });
                }
                Holds::Time => {
                    w.i32(6, 9).nested(10, |w| {
                        w.nested(8, |w| {
                            w.flag(1, true).nested(2, |w| {
                                w.nested(1, |_| {});
                            });
                        });
                    });
                }
                Holds::Whole => {}
            }
        }
    });
    w.i64(3, groups.iter().map(|g| g[0].values).sum());
    let numbered: Vec<(usize, &Vec<Chunk>)> = groups.iter().enumerate().collect();
    w.structs(4, &numbered, |w, (at, chunks)| group(w, chunks, &places[at * COLUMNS.len()..]));
    w.bytes(6, concat!("seckill ", env!("CARGO_PKG_VERSION")).as_bytes());
    // Without an order readers may not believe the statistics of texts.
    w.structs(7, &COLUMNS, |w, _| {
        w.nested(1, |_| {});
    });
    w.finish()
}

fn group(w: &mut Writer, chunks: &[Chunk], places: &[[(i64, i32); 2]]) {
    let columns: Vec<_> = chunks.iter().zip(places).zip(COLUMNS).collect();
    w.structs(1, &columns, |w, ((chunk, [index, offsets]), (name, holds))| {
        w.i64(2, chunk.dictionary).nested(3, |w| {
            w.i32(1, if *holds == Holds::Text { number::BYTE_ARRAY } else { number::INT64 })
                .i32s(2, &[number::PLAIN, number::RLE, number::RLE_DICTIONARY])
                .texts(3, &[name])
                .i32(4, number::ZSTD)
                .i64(5, chunk.values)
                .i64(6, chunk.plain)
                .i64(7, chunk.packed)
                .i64(9, chunk.data)
                .i64(11, chunk.dictionary)
                .nested(12, |w| {
                    w.i64(3, 0).bytes(5, &chunk.most).bytes(6, &chunk.least);
                });
        });
        w.i64(4, offsets.0).i32(5, offsets.1).i64(6, index.0).i32(7, index.1);
    });
    let sum = |of: fn(&Chunk) -> i64| chunks.iter().map(of).sum::<i64>();
    w.i64(2, sum(|c| c.plain)).i64(3, chunks[0].values);
    w.structs(4, &[0, 1], |w, column| {
        w.i32(1, *column).flag(2, false).flag(3, false);
    });
    w.i64(5, chunks[0].dictionary).i64(6, sum(|c| c.packed));
}
