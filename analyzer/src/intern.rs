//! Pages as dense numbers, so that counts lie in flat arrays. A number is reused once no pane that is
//! kept mentions its page; who mentions it is told from outside.

use hashbrown::HashMap;
use types::{Invalid, PageId};

/// Names and numbers of pages.
#[derive(Debug, Default)]
pub struct PageTable {
    // Page ids come from request paths, so the map's hash is keyed at random (hashbrown's default).
    ids: HashMap<PageId, u32>,
    names: Vec<Option<PageId>>,
    mentions: Vec<u16>,
    free: Vec<u32>,
}

impl PageTable {
    /// Pages known now.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
    /// Whether no page is known.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
    /// Numbers handed out so far: every id is below this.
    pub fn span(&self) -> usize {
        self.names.len()
    }
    /// The number of a known page.
    pub fn find(&self, page: &str) -> Option<u32> {
        self.ids.get(page).copied()
    }
    /// Gives the page a number. It stays only if a pane mentions it.
    pub fn insert(&mut self, page: &str) -> Result<u32, Invalid> {
        let name = PageId::new(page)?;
        let id = match self.free.pop() {
            Some(id) => {
                self.names[id as usize] = Some(name.clone());
                id
            }
            None => {
                self.names.push(Some(name.clone()));
                self.mentions.push(0);
                (self.names.len() - 1) as u32
            }
        };
        self.ids.insert(name, id);
        Ok(id)
    }
    /// The page with this number.
    pub fn name(&self, id: u32) -> &PageId {
        self.names[id as usize].as_ref().expect("only numbers of known pages are kept in panes and windows")
    }
    /// One more pane mentions it.
    pub fn mention(&mut self, id: u32) {
        self.mentions[id as usize] += 1;
    }
    /// Whether a pane mentions it.
    pub fn is_mentioned(&self, id: u32) -> bool {
        self.mentions[id as usize] > 0
    }
    /// One pane less mentions it; true if that was the last, and its number is free.
    pub fn forget(&mut self, id: u32) -> bool {
        let mentions = &mut self.mentions[id as usize];
        *mentions -= 1;
        if *mentions > 0 {
            return false;
        }
        if let Some(name) = self.names[id as usize].take() {
            self.ids.remove(&name);
        }
        self.free.push(id);
        true
    }
    /// Known pages with their numbers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&PageId, u32)> {
        self.ids.iter().map(|(page, id)| (page, *id))
    }
}
