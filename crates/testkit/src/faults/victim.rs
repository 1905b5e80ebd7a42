//! What can be done to a process under test, whichever it is: a service of ours or a server that it stands on.

use servers::{Kafka, MariaDb, Nginx, Program, Redis, ServerError};

/// A process that may be killed, paused and started again.
pub trait Victim: Send {
    /// `kill -9`.
    fn kill(&mut self);
    /// SIGSTOP: it keeps its connections and answers nothing.
    fn pause(&mut self);
    /// SIGCONT.
    fn resume(&mut self);
    /// Starts it again on the same data and ports; returns when it serves.
    fn restart(&mut self) -> Result<(), ServerError>;
    /// Whether the process is there; a paused one is.
    fn is_running(&mut self) -> bool;
}

macro_rules! victim {
    ($($server:ty),*) => {$(
        impl Victim for $server {
            fn kill(&mut self) {
                <$server>::kill(self);
            }
            fn pause(&mut self) {
                <$server>::pause(self);
            }
            fn resume(&mut self) {
                <$server>::resume(self);
            }
            fn restart(&mut self) -> Result<(), ServerError> {
                <$server>::restart(self)
            }
            fn is_running(&mut self) -> bool {
                <$server>::is_running(self)
            }
        }
    )*};
}
victim!(Program, Kafka, Redis, MariaDb, Nginx);
