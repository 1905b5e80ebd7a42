//! Which members of a shipper's record are known, and what is done with each. Tables and nothing else; it must never
//! look at a value.

/// The object that a member stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    #[default]
    Top,
    Metadata,
    Log,
    File,
    Agent,
    Host,
    Event,
}

/// A text that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Path,
    PlainPath,
    Inode,
    Device,
    Fingerprint,
    AgentId,
    AgentType,
    AgentVersion,
    Beat,
    BeatVersion,
    Host,
    Module,
    Dataset,
}

impl Fact {
    pub const COUNT: usize = Self::Dataset as usize + 1;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Path,
        Self::PlainPath,
        Self::Inode,
        Self::Device,
        Self::Fingerprint,
        Self::AgentId,
        Self::AgentType,
        Self::AgentVersion,
        Self::Beat,
        Self::BeatVersion,
        Self::Host,
        Self::Module,
        Self::Dataset,
    ];
}

/// What is done with a member that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Message,
    Offset,
    Text(Fact),
    Enter(Place),
    /// Nothing; it only shows that this is a shipper's record.
    Sign,
}

/// What is known of a member: its bit among those seen, and what is done with it.
pub(super) fn known(place: Place, key: &str) -> Option<(u32, Job)> {
    use Job::{Enter, Message, Offset, Sign, Text};
    let (bit, job) = match (place, key) {
        (Place::Top, "message") => (0, Message),
        (Place::Top, "@timestamp") => (1, Sign),
        (Place::Top, "@metadata") => (2, Enter(Place::Metadata)),
        (Place::Top, "log") => (3, Enter(Place::Log)),
        (Place::Top, "agent") => (4, Enter(Place::Agent)),
        (Place::Top, "host") => (5, Enter(Place::Host)),
        (Place::Top, "event") => (6, Enter(Place::Event)),
        (Place::Top, "file") => (7, Text(Fact::PlainPath)),
        (Place::Top, "offset") => (8, Offset),
        (Place::Top, "ecs") => (9, Sign),
        (Place::Metadata, "beat") => (10, Text(Fact::Beat)),
        (Place::Metadata, "version") => (11, Text(Fact::BeatVersion)),
        (Place::Log, "offset") => (12, Offset),
        (Place::Log, "file") => (13, Enter(Place::File)),
        (Place::File, "path") => (14, Text(Fact::Path)),
        (Place::File, "inode") => (15, Text(Fact::Inode)),
        (Place::File, "device_id") => (16, Text(Fact::Device)),
        (Place::File, "fingerprint") => (17, Text(Fact::Fingerprint)),
        (Place::Agent, "id") => (18, Text(Fact::AgentId)),
        (Place::Agent, "type") => (19, Text(Fact::AgentType)),
        (Place::Agent, "version") => (20, Text(Fact::AgentVersion)),
        (Place::Host, "name") => (21, Text(Fact::Host)),
        (Place::Event, "module") => (22, Text(Fact::Module)),
        (Place::Event, "dataset") => (23, Text(Fact::Dataset)),
        _ => return None,
    };
    Some((1 << bit, job))
}

/// Bits of what only a shipper writes.
pub(super) const SIGNS: u32 = 0b10_0101_1111;
/// Bits that say more of a member than that it was there: a module's record; a dataset of an access log.
pub(super) const MODULE: u32 = 1 << 30;
pub(super) const ACCESS: u32 = 1 << 31;

/// The members that differ from record to record, by their first bytes as Filebeat writes them: how many bytes
/// stand before the value, and what [`known`] says. Written in another way they are found there.
#[inline]
pub(super) fn varying(place: Place, rest: &[u8]) -> Option<(usize, u32, Job)> {
    // The first letter tells nearly all others apart at once.
    match (place, rest.get(1)?) {
        (Place::Top, b'm') if rest.starts_with(b"\"message\":\"") => Some((10, 1, Job::Message)),
        (Place::Top, b'l') if rest.starts_with(b"\"log\":{") => Some((6, 1 << 3, Job::Enter(Place::Log))),
        (Place::Top, b'@') if rest.starts_with(b"\"@timestamp\":\"") => Some((13, 1 << 1, Job::Sign)),
        (Place::Log, b'o') if rest.starts_with(b"\"offset\":") => Some((9, 1 << 12, Job::Offset)),
        _ => None,
    }
}
