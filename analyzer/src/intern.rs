//! Pages as dense numbers, so that counts lie in flat arrays. A number is free again once nothing mentions its page;
//! who mentions it is told from outside.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use types::{Invalid, PageId};

/// No page.
pub const NOBODY: u32 = u32::MAX;
/// Most numbers: three bits of a pane's word say what was done.
pub const MAX_PAGES: usize = 1 << 29;
/// Names looked up together: enough for the memory to work on all of them at once, few enough to stay in the cache.
const TOGETHER: usize = 32;

/// Names and numbers of pages.
///
/// A word of the table is a 32-bit hash and a number; the hash is also the word's home. So a look-up costs one place
/// in the table and one comparison of names, and neither growing nor forgetting has to read names.
#[derive(Debug, Default)]
pub struct PageTable {
    // Page ids come from request paths, so the hash is keyed at random.
    hasher: DefaultHashBuilder,
    // Hash above, number + 1 below; 0 is an empty place. Its length is a power of two.
    places: Vec<u64>,
    names: Vec<Option<PageId>>,
    free: Vec<u32>,
}

impl PageTable {
    /// Pages known now.
    pub fn len(&self) -> usize {
        self.names.len() - self.free.len()
    }
    /// Whether no page is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Numbers handed out so far: every id is below this.
    pub fn span(&self) -> usize {
        self.names.len()
    }
    /// The page with this number.
    pub fn name(&self, id: u32) -> &PageId {
        self.names[id as usize].as_ref().expect("only numbers of known pages are kept in panes and windows")
    }
    /// Known pages with their numbers, by number.
    pub fn iter(&self) -> impl Iterator<Item = (&PageId, u32)> {
        self.names.iter().zip(0..).filter_map(|(name, id)| Some((name.as_ref()?, id)))
    }

    #[inline]
    fn hash(&self, page: &str) -> u32 {
        (self.hasher.hash_one(page) >> 32) as u32
    }
    #[inline]
    fn home(&self, hash: u32) -> usize {
        // The places' number is a power of two, at most 2^31.
        (hash >> (32 - self.places.len().trailing_zeros())) as usize
    }
    #[inline]
    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// The number of a known page.
    #[inline]
    pub fn find(&self, page: &str) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        self.find_hashed(page, self.hash(page))
    }

    #[inline]
    fn find_hashed(&self, page: &str, hash: u32) -> Option<u32> {
        let mut place = self.home(hash);
        loop {
            let word = self.places[place];
            if word == 0 {
                return None;
            }
            if (word >> 32) as u32 == hash {
                let id = word as u32 - 1;
                if self.names[id as usize].as_ref().is_some_and(|name| name.as_str() == page) {
                    return Some(id);
                }
            }
            place = self.after(place);
        }
    }

    /// The numbers of many pages, [`NOBODY`] for those that are not known. In steps of which each asks the memory
    /// for many places that do not depend on each other: at ten million pages hardly any of them lies in a cache.
    pub fn find_all(&self, pages: &[PageId], ids: &mut Vec<u32>) {
        ids.clear();
        if self.places.is_empty() {
            ids.resize(pages.len(), NOBODY);
            return;
        }
        for some in pages.chunks(TOGETHER) {
            let (mut hashes, mut words, mut lengths) = ([0u32; TOGETHER], [0u64; TOGETHER], [0usize; TOGETHER]);
            for (hash, page) in hashes.iter_mut().zip(some) {
                *hash = self.hash(page.as_str());
            }
            for (word, hash) in words.iter_mut().zip(&hashes[..some.len()]) {
                *word = self.places[self.home(*hash)];
            }
            for (length, word) in lengths.iter_mut().zip(&words[..some.len()]) {
                let name = self.names.get((*word as u32).wrapping_sub(1) as usize);
                *length = name.and_then(Option::as_ref).map_or(0, |name| name.as_str().len());
            }
            for (n, page) in some.iter().enumerate() {
                let (hash, word) = (hashes[n], words[n]);
                let first = (word as u32).wrapping_sub(1);
                let same = word != 0
                    && (word >> 32) as u32 == hash
                    && lengths[n] == page.as_str().len()
                    && self.name(first) == page;
                ids.push(if same { first } else { self.find_hashed(page.as_str(), hash).unwrap_or(NOBODY) });
            }
        }
    }

    /// Gives the page, which is not known, a number.
    pub fn insert(&mut self, page: &str) -> Result<u32, Invalid> {
        Ok(self.insert_page(PageId::new(page)?))
    }

    /// Gives the page, which is not known, a number.
    pub fn insert_page(&mut self, page: PageId) -> u32 {
        if (self.len() + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        let hash = self.hash(page.as_str());
        let id = match self.free.pop() {
            Some(id) => {
                self.names[id as usize] = Some(page);
                id
            }
            None => {
                self.names.push(Some(page));
                (self.names.len() - 1) as u32
            }
        };
        self.put(u64::from(hash) << 32 | u64::from(id + 1));
        id
    }

    fn put(&mut self, word: u64) {
        let mut place = self.home((word >> 32) as u32);
        while self.places[place] != 0 {
            place = self.after(place);
        }
        self.places[place] = word;
    }

    fn grow(&mut self) {
        let larger = vec![0; (self.places.len() * 2).max(64)];
        for word in std::mem::replace(&mut self.places, larger) {
            if word != 0 {
                self.put(word);
            }
        }
    }

    /// Nothing mentions the page any more: its number is free.
    pub fn forget(&mut self, id: u32) {
        let Some(name) = self.names[id as usize].take() else { return };
        self.free.push(id);
        let hash = self.hash(name.as_str());
        let mut hole = self.home(hash);
        while self.places[hole] as u32 != id + 1 {
            hole = self.after(hole);
        }
        // Those behind it move up, so that no search stops at the hole too early.
        let mut place = self.after(hole);
        loop {
            let word = self.places[place];
            if word == 0 {
                break;
            }
            let home = self.home((word >> 32) as u32);
            let reach = place.wrapping_sub(home) & (self.places.len() - 1);
            let gap = place.wrapping_sub(hole) & (self.places.len() - 1);
            if reach >= gap {
                self.places[hole] = word;
                hole = place;
            }
            place = self.after(place);
        }
        self.places[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds_however_pages_come_and_go(steps in prop::collection::vec((0u32..400, any::<bool>()), 1..2000)) {
            let (mut table, mut map) = (PageTable::default(), HashMap::new());
            for (page, stays) in steps {
                let name = format!("p{page}");
                match (table.find(&name), stays) {
                    (None, true) => {
                        let id = table.insert(&name).unwrap();
                        prop_assert!(map.insert(name, id).is_none());
                    }
                    (Some(id), false) => {
                        prop_assert_eq!(map.remove(&name), Some(id));
                        table.forget(id);
                    }
                    (found, _) => prop_assert_eq!(found, map.get(&name).copied()),
                }
            }
            let pages: Vec<PageId> = (0..400).map(|n| PageId::new(format!("p{n}")).unwrap()).collect();
            let mut ids = Vec::new();
            table.find_all(&pages, &mut ids);
            for (page, id) in pages.iter().zip(ids) {
                prop_assert_eq!(id, map.get(page.as_str()).copied().unwrap_or(NOBODY));
            }
            prop_assert_eq!(table.len(), map.len());
        }
    }
}
