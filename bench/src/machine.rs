//! What the figures were measured on, how much memory this process holds, and how long it has computed. Reads
//! `/proc`, nothing else.

use std::fs;
use std::time::Duration;

/// Processor, cores, memory, kernel.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let said = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = said(&read("/proc/meminfo"), "MemTotal");
    let allowed = said(&read("/proc/self/status"), "Cpus_allowed_list");
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = said(&cpu, "model name");
    format!("{model}, {cores} cores (this run on {allowed}), {memory}, Linux {}", kernel.trim())
}

/// Resident memory of a process (its number, or `self`) in bytes.
pub fn resident(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

/// Time that this thread has spent on its core. Unlike the wall's it leaves out what others did there meanwhile.
pub fn computed() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Time that all threads of a process (its number, or `self`) have together spent on a core, to a hundredth of a second.
pub fn computed_by(process: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name in brackets: user and system time are the 12th and 13th field, in ticks of 10 ms.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(10 * ticks)
}
