//! One server process: started from a recipe that can be followed again, its output in a file, its end sure.
//! Signals go to the process group that it leads, never to a process by name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::ServerError;
use crate::error::at;

/// Pause between two looks at a condition.
const STEP: Duration = Duration::from_millis(20);
/// Most of a log that an error repeats, in bytes.
const TAIL: u64 = 4096;
/// How long a server may take to end when asked kindly; then it is killed.
const KINDLY: Duration = Duration::from_secs(10);

/// How a server is started, each time alike.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) server: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Its working directory; its output goes to `output.log` there.
    pub(crate) directory: PathBuf,
    /// A file that it gets as standard input; otherwise it gets none.
    pub(crate) input: Option<PathBuf>,
    /// How long it may take until it answers. Generous: machines are busy.
    pub(crate) bound: Duration,
}

type Ready = Box<dyn Fn() -> bool + Send + Sync>;

/// A server process and the way to start it again.
pub(crate) struct Process {
    recipe: Recipe,
    ready: Ready,
    running: Option<Running>,
}

struct Running {
    child: Child,
    guard: Guard,
}

impl Process {
    /// Starts it and waits until `ready`.
    pub(crate) fn start(recipe: Recipe, ready: impl Fn() -> bool + Send + Sync + 'static) -> Result<Self, ServerError> {
        let mut process = Self { recipe, ready: Box::new(ready), running: None };
        process.restart()?;
        Ok(process)
    }

    /// Kills it if it runs, starts it again as the first time and waits until it answers.
    pub(crate) fn restart(&mut self) -> Result<(), ServerError> {
        self.kill();
        let path = self.log_path();
        let log = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        let begin = log.metadata().map_err(at(&path))?.len();
        self.running = Some(self.spawn(log)?);
        let started = Instant::now();
        while !(self.ready)() {
            let running = self.running.as_mut().map(|r| r.child.try_wait());
            if let Some(Ok(Some(status))) = running {
                self.kill();
                return Err(ServerError::Died { server: self.recipe.server, status, tail: self.tail(begin) });
            }
            if started.elapsed() > self.recipe.bound {
                self.kill();
                let (server, waited) = (self.recipe.server, self.recipe.bound);
                return Err(ServerError::Silent { server, waited, tail: self.tail(begin) });
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn spawn(&self, log: File) -> Result<Running, ServerError> {
        let recipe = &self.recipe;
        let input = match &recipe.input {
            Some(path) => Stdio::from(File::open(path).map_err(at(path))?),
            None => Stdio::null(),
        };
        let errors = log.try_clone().map_err(at(self.log_path()))?;
        let mut child = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .current_dir(&recipe.directory)
            .process_group(0)
            .stdin(input)
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(at(&recipe.program))?;
        match Guard::of(child.id()) {
            Ok(guard) => Ok(Running { child, guard }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.running.as_ref().and_then(|r| Pid::from_raw(r.child.id() as i32)) {
            // Fails only if the whole group is gone already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// `kill -9`, for it and what it started; nothing if it does not run.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut running) = self.running.take() {
            let _ = running.child.wait();
            running.guard.dismiss();
        }
    }

    /// Asks it to end in its own way, and kills it if that takes too long.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.is_running() && asked.elapsed() < KINDLY {
            thread::sleep(STEP);
        }
        self.kill();
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGHUP: reads its configuration again, if it is of that kind.
    pub(crate) fn hang_up(&self) {
        if let Some(pid) = self.running.as_ref().and_then(|r| Pid::from_raw(r.child.id() as i32)) {
            let _ = rustix::process::kill_process(pid, Signal::HUP);
        }
    }

    /// Whether the process is there; a paused one is.
    pub(crate) fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|r| matches!(r.child.try_wait(), Ok(None)))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|r| r.child.id())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.recipe.directory
    }

    fn log_path(&self) -> PathBuf {
        self.recipe.directory.join("output.log")
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        self.tail(0)
    }

    /// The end of what it said after this position of its log.
    fn tail(&self, begin: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log_path())?;
            let from = begin.max(file.metadata()?.len().saturating_sub(TAIL));
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills the server's process group when this process is gone, however it went: a shell that waits for the end of
/// a pipe whose other end only this process holds. (`prctl(PR_SET_PDEATHSIG)` would be tied to the thread that
/// started the server, and would spare the server's own children.) Only between the two starts is a gap.
struct Guard {
    shell: Child,
}

impl Guard {
    fn of(group: u32) -> Result<Self, ServerError> {
        let shell = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -s KILL -- \"-$1\"", "guard", &group.to_string()])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(at("/bin/sh"))?;
        Ok(Self { shell })
    }

    /// The server is dead: the number of its group may soon be another's, so the guard goes first.
    fn dismiss(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// Polls a condition for at most `bound`.
pub(crate) fn until(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if started.elapsed() > bound {
            return false;
        }
        thread::sleep(STEP);
    }
}

/// Runs one of a server's tools to its end and answers what it printed.
pub(crate) fn tool(command: &mut Command) -> Result<String, ServerError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(at(&name))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    Err(ServerError::Tool { tool: name, output: said })
}

/// Removes a directory; that it is not there is well.
pub(crate) fn remove(path: &Path) -> Result<(), ServerError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}
