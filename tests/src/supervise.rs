//! Runs the services of a host: starts, stops, kills; never restarts by itself.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    Host, Ready, Service,
    clock::poll,
    error::{Error, Result, file},
    host::tail,
    process::Process,
};

/// How long a service may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a service may take to end when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that was started.
pub(crate) struct Active {
    process: Process,
    /// Where it says that it is ready; open as long as the service may write to it.
    notify: Option<UnixDatagram>,
}

/// The services of a host that were started, by name.
pub(crate) type Services = BTreeMap<&'static str, Active>;

impl Host {
    /// Starts a service and waits until it is ready, 60 s at most.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if it runs already, ends at once or does not become ready.
    pub fn start_service(&self, service: Service) -> Result<()> {
        if self.service_runs(service) {
            return Err(self.service_error(service, "runs already"));
        }
        let init = self.inner.init()?;
        let log = self.inner.log_folder().join(format!("{}.log", service.name));
        let open = || {
            let file = fs::File::options().append(true).create(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(file("open", &log))?;
        let mut command = self.inner.enter(service.argv)?;
        command.stdin(std::process::Stdio::null()).stdout(out).stderr(err);
        command.envs(service.env.iter().copied());
        let notify = match service.ready {
            Ready::Notify => Some(self.notify_socket(service)?),
            _ => None,
        };
        if notify.is_some() {
            command.env("NOTIFY_SOCKET", notify_path(service));
        }
        let process = Process::start(self.name(), service.name, &mut command)?;
        self.services().insert(service.name, Active { process, notify });
        self.wait_ready(service, init)
    }

    /// Asks a service to end with SIGTERM and waits for it, 10 s at most; then kills it.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if it had to be killed or does not run.
    pub fn stop_service(&self, service: Service) -> Result<()> {
        self.end_service(service, Signal::TERM)
    }

    /// Kills the main process of a service with SIGKILL, and waits until it is gone. Other
    /// processes of the service live on, as they do when this happens in real life.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if it does not run.
    pub fn kill9(&self, service: Service) -> Result<()> {
        self.end_service(service, Signal::KILL)
    }

    /// Stops a service and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Host::stop_service`] and [`Host::start_service`].
    pub fn restart_service(&self, service: Service) -> Result<()> {
        self.stop_service(service)?;
        self.start_service(service)
    }

    /// Sends a signal to the main process of a service.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if it does not run.
    pub fn signal_service(&self, service: Service, signal: Signal) -> Result<()> {
        let sent =
            self.services().get_mut(service.name).map(|active| active.process.signal(signal));
        if sent == Some(true) { Ok(()) } else { Err(self.service_error(service, "does not run")) }
    }

    /// The process id, in the host, of a service's main process.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if it does not run.
    pub fn service_pid(&self, service: Service) -> Result<i32> {
        let pid = self.services().get_mut(service.name).and_then(|active| active.process.inner());
        pid.map(|(_, pid)| pid).ok_or_else(|| self.service_error(service, "does not run"))
    }

    /// Whether the main process of a service runs.
    #[must_use]
    pub fn service_runs(&self, service: Service) -> bool {
        let mut services = self.services();
        services
            .get_mut(service.name)
            .is_some_and(|active| active.process.wait(Duration::ZERO).is_none())
    }

    /// What a service said since the host was made.
    #[must_use]
    pub fn service_log(&self, service: Service) -> String {
        let log = self.inner.log_folder().join(format!("{}.log", service.name));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Starts a service, and has it start with the host from now on.
    ///
    /// # Errors
    ///
    /// As [`Host::start_service`].
    pub fn enable_service(&self, service: Service) -> Result<()> {
        self.enabled().push(service);
        self.start_service(service)
    }

    /// Starts the enabled services, in order.
    pub(crate) fn start_all(&self) -> Result<()> {
        let services = self.enabled().clone();
        services.into_iter().try_for_each(|service| self.start_service(service))
    }

    fn enabled(&self) -> MutexGuard<'_, Vec<Service>> {
        self.inner.enabled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.inner.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service_error(&self, service: Service, why: &str) -> Error {
        Error::Service {
            host: self.name().to_owned(),
            service: service.name,
            why: why.to_owned(),
            log: tail(&self.inner.log_folder().join(format!("{}.log", service.name))),
        }
    }

    fn end_service(&self, service: Service, signal: Signal) -> Result<()> {
        self.signal_service(service, signal)?;
        // Out of the table first: waiting must not keep others from looking at it.
        let active = self.services().remove(service.name);
        let ended = active.is_some_and(|mut active| active.process.wait(STOP_TIMEOUT).is_some());
        if ended {
            return Ok(());
        }
        let why = format!("did not end within {} s and was killed", STOP_TIMEOUT.as_secs());
        Err(self.service_error(service, &why))
    }

    fn notify_socket(&self, service: Service) -> Result<UnixDatagram> {
        let path = self.inner.outside_path(&notify_path(service))?;
        let _ = fs::remove_file(&path);
        let bind = || {
            let socket = UnixDatagram::bind(&path)?;
            socket.set_nonblocking(true)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            Ok(socket)
        };
        bind().map_err(file("bind", &path))
    }

    fn wait_ready(&self, service: Service, init: Pid) -> Result<()> {
        let ready = poll(READY_TIMEOUT, || {
            if !self.service_runs(service) {
                return Some(Err(self.service_error(service, "ended before it was ready")));
            }
            self.is_ready(service, init).then_some(Ok(()))
        });
        let why = format!("was not ready within {} s", READY_TIMEOUT.as_secs());
        ready.unwrap_or_else(|| Err(self.service_error(service, &why)))
    }

    fn is_ready(&self, service: Service, init: Pid) -> bool {
        match service.ready {
            Ready::Spawned => true,
            Ready::Socket(path) => accepts(init, path),
            Ready::Port(port) => listens(init, port),
            Ready::Notify => {
                let services = self.services();
                let socket = services.get(service.name).and_then(|active| active.notify.as_ref());
                socket.is_some_and(said_ready)
            }
        }
    }
}

/// Where a service finds its notify socket, in the host.
fn notify_path(service: Service) -> String {
    format!("/run/lab/{}.notify", service.name)
}

/// Whether one of the messages that have come says READY=1.
fn said_ready(socket: &UnixDatagram) -> bool {
    let mut message = [0; 4096];
    while let Ok(len) = socket.recv(&mut message) {
        if message[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return true;
        }
    }
    false
}

/// Whether a TCP port is listened on where a process is (proc_pid_net(5): the local address ends
/// with the port in hex, state 0A is LISTEN).
fn listens(pid: Pid, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["tcp", "tcp6"].into_iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&suffix))
                && fields.nth(1) == Some("0A")
        })
    })
}

/// Whether a Unix socket of that name is listened on where a process is (proc_pid_net(5): the
/// fourth field has the flag `__SO_ACCEPTCON`, 0x10000; the last is the path).
fn accepts(pid: Pid, path: &str) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let flags = line.split_whitespace().nth(3);
        flags == Some("00010000") && line.ends_with(&format!(" {path}"))
    })
}
