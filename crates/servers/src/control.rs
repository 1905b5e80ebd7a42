//! What every server of this crate can be made to do; written once, for each kind alike.

/// Gives a type with a field `process` the common methods.
macro_rules! controls {
    ($server:ty) => {
        impl $server {
            /// `kill -9`, for it and what it started. Its directory and port stay its own.
            pub fn kill(&mut self) {
                self.process.kill();
            }
            /// Asks it to end in its own way (SIGTERM) and waits; kills it if that takes longer than 10 s.
            pub fn stop(&mut self) {
                self.process.stop();
            }
            /// SIGSTOP: it keeps its connections and answers nothing.
            pub fn pause(&self) {
                self.process.pause();
            }
            /// SIGCONT.
            pub fn resume(&self) {
                self.process.resume();
            }
            /// Kills it if it runs, and starts it again on the same directory and port; returns when it answers.
            pub fn restart(&mut self) -> Result<(), $crate::ServerError> {
                self.process.restart()
            }
            /// Whether the process is there; a paused one is.
            pub fn is_running(&mut self) -> bool {
                self.process.is_running()
            }
            /// Its process, if it runs.
            pub fn pid(&self) -> Option<u32> {
                self.process.pid()
            }
            /// Its own directory.
            pub fn directory(&self) -> &std::path::Path {
                self.process.directory()
            }
            /// The end of what it has printed, 4 KiB at most.
            pub fn log(&self) -> String {
                self.process.log()
            }
        }
    };
}
pub(crate) use controls;
