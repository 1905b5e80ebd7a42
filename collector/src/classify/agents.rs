//! User agents whose verdict is known, so that each is searched for bots' tokens once and not on every line. Bounded;
//! it must never take one agent for another: all bytes are compared.

/// Agents remembered. A shop sees some thousands; the few hundred frequent ones make nearly all lines.
const SLOTS: usize = 4096;
/// Longest agent that is kept, in bytes; together with [`SLOTS`] it bounds the memory at 2 MiB.
const LONGEST: usize = 512;
/// Eight-byte samples from which an agent's slot is found.
const SAMPLES: usize = 6;

/// One verdict for each agent.
#[derive(Debug)]
pub(crate) struct AgentMemory(Vec<(Vec<u8>, Option<u16>)>);

impl Default for AgentMemory {
    fn default() -> Self {
        Self(vec![(Vec::new(), None); SLOTS])
    }
}

impl AgentMemory {
    /// The verdict on this agent, the number of its bot's token if it is one: remembered, or `judge`'s.
    #[inline]
    pub fn recall(&mut self, agent: &str, judge: impl Fn(&str) -> Option<u16>) -> Option<u16> {
        let bytes = agent.as_bytes();
        let (known, verdict) = &mut self.0[slot(bytes)];
        if known.as_slice() == bytes && !bytes.is_empty() {
            return *verdict;
        }
        let judged = judge(agent);
        if bytes.len() <= LONGEST {
            known.clear();
            known.extend_from_slice(bytes);
            *verdict = judged;
        }
        judged
    }
}

/// Agents begin and end alike and differ in their middle, so samples are taken all along. A collision costs a search.
#[inline]
fn slot(bytes: &[u8]) -> usize {
    let mut mixed = bytes.len() as u64;
    let step = (bytes.len().saturating_sub(8) / SAMPLES).max(1);
    for sample in 0..SAMPLES {
        let Some(word) = bytes.get(sample * step..).and_then(|rest| rest.first_chunk::<8>()) else { break };
        mixed = (mixed.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    let end = bytes.last_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    mixed = (mixed.rotate_left(23) ^ end).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_remembered_for_exactly_that_agent() {
        let mut memory = AgentMemory::default();
        for round in 0..3 {
            for n in 0..20_000u32 {
                let agent = format!("Mozilla/5.0 (agent {n}; build {}) Safari/537.36", n / 7);
                let token = |agent: &str| agent.contains("3;").then_some(n as u16 % 7);
                assert_eq!(memory.recall(&agent, token), token(&agent), "round {round}: {agent}");
            }
        }
        let long = "x".repeat(LONGEST + 1);
        for forgotten in ["", long.as_str()] {
            assert_eq!(memory.recall(forgotten, |_| Some(1)), Some(1));
            assert_eq!(memory.recall(forgotten, |_| None), None, "no agent, or one too long, is not remembered");
        }
    }
}
