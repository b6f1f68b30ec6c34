//! A server program of a test's own, in a folder of its own: it may be stopped, killed, paused and
//! started again on the same port and data, and it ends with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::{Process, free_port};

/// Longer than any start, recovery or stop on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that listens on one port of this machine.
pub trait Program: Send + Sync {
    const NAME: &str;
    /// Ends it in good order; what it was sent it has kept.
    const STOP: Signal;

    fn command(&self, folder: &Path, port: u16) -> Command;

    /// Whether the process with this id, and not a stranger on its port, takes connections.
    fn is_ready(&self, folder: &Path, port: u16, process: u32) -> bool;
}

#[derive(Debug)]
pub struct Server<P: Program> {
    program: P,
    port: u16,
    process: Mutex<Option<Process>>,
    // Last: the process writes into it.
    folder: TempDir,
}

impl<P: Program> Server<P> {
    pub fn start(program: P, folder: TempDir) -> Self {
        // Somebody may take the port between the look and the start.
        for _ in 0..20 {
            let port = free_port();
            if let Some(process) = run(&program, folder.path(), port) {
                let process = Mutex::new(Some(process));
                return Self {
                    program,
                    port,
                    process,
                    folder,
                };
            }
        }
        panic!("{} does not start: {}", P::NAME, log(folder.path()));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts it where it was stopped or killed: same port, same data.
    pub fn restart(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "{} runs already", P::NAME);
        // The children of a killed server may still be on their way out.
        let deadline = Instant::now() + PATIENCE;
        while process.is_none() {
            assert!(Instant::now() < deadline, "{}", self.log());
            *process = run(&self.program, self.folder.path(), self.port);
        }
    }

    /// Stops it in good order and waits.
    pub fn stop(&self) {
        let process = self.process().take().expect("a running server");
        end(process, P::STOP);
    }

    /// `kill -9` of the server and everything below it, at once.
    pub fn kill9(&self) {
        let process = self.process().take().expect("a running server");
        // The parent first, so that it makes no more; they hang on to it until it is reaped.
        let below = children(process.id());
        end(process, Signal::KILL);
        for child in below {
            signal(child, Signal::KILL);
        }
    }

    /// Not dead, and silent: connections stay open and nothing answers.
    pub fn pause(&self) {
        let process = self.process();
        let id = process.as_ref().expect("a running server").id();
        signal(id, Signal::STOP);
        for child in children(id) {
            signal(child, Signal::STOP);
        }
    }

    pub fn resume(&self) {
        let process = self.process();
        let id = process.as_ref().expect("a running server").id();
        for child in children(id) {
            signal(child, Signal::CONT);
        }
        signal(id, Signal::CONT);
    }
}

impl<P: Program> Drop for Server<P> {
    fn drop(&mut self) {
        // Its data go with it, so it need not tidy up; a paused one must wake to end.
        if let Some(process) = self.process().take() {
            for child in children(process.id()) {
                signal(child, Signal::KILL);
            }
            end(process, Signal::KILL);
        }
    }
}

/// A command of another user where we are root, and one that ends when this test process is killed.
pub fn command_as(user: Option<&str>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.arg("--init-groups");
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// None where it ended at once.
fn run<P: Program>(program: &P, folder: &Path, port: u16) -> Option<Process> {
    let mut process = spawn(program.command(folder, port), folder.join("log"));
    let deadline = Instant::now() + PATIENCE;
    while process.ended().is_none() {
        if program.is_ready(folder, port, process.id()) {
            return Some(process);
        }
        assert!(
            Instant::now() < deadline,
            "{} does not get ready: {}",
            P::NAME,
            log(folder)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// A process that dies with its parent dies with the *thread* that made it: this one outlives all.
fn spawn(command: Command, log: PathBuf) -> Process {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(Process::start(command, log));
        loop {
            std::thread::park();
        }
    });
    receiver.recv().expect("a started process")
}

fn end(mut process: Process, with: Signal) {
    process.signal(with);
    let deadline = Instant::now() + PATIENCE;
    while process.ended().is_none() {
        assert!(Instant::now() < deadline, "a server does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn signal(process: u32, signal: Signal) {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    // Gone meanwhile is as good.
    let _ = kill_process(id.expect("a process id"), signal);
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |id: &u32| {
        // "1234 (name) S 1200 …", and the name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        let field = after.and_then(|after| after.split(' ').nth(1));
        field.and_then(|field| field.parse().ok()) == Some(parent)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .collect()
}
