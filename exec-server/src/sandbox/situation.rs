//! Where this process runs, as far as it says why the kernel gives no sandbox, and what to paste to cure it.

use std::fs;
use std::path::Path;

/// The first kernel that has every mount call that a view needs (`mount_setattr`).
const MOUNTS_SINCE: (u32, u32) = (5, 12);

/// Facts about the system and this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) kernel: (u32, u32),
    pub(super) landlock: Landlock,
    /// The names of the security modules in use, with commas.
    pub(super) modules: Option<String>,
    /// Whether the kernel knows user namespaces.
    pub(super) knows_user_namespaces: bool,
    /// `kernel.unprivileged_userns_clone`, a switch of Debian's kernels.
    pub(super) userns_clone: Option<u64>,
    /// `user.max_user_namespaces`.
    pub(super) most_user_namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`.
    pub(super) apparmor_restricts: Option<u64>,
    pub(super) container: Option<Container>,
    /// The version of the Windows Subsystem for Linux.
    pub(super) wsl: Option<u8>,
    /// The systemd service that this process belongs to.
    pub(super) unit: Option<String>,
    /// Whether a filter of system calls is on this process already.
    pub(super) is_filtered: bool,
    /// Whether this process may do what an administrator may (`CAP_SYS_ADMIN`).
    pub(super) is_administrator: bool,
}

/// What the kernel says of Landlock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Landlock {
    /// The kernel has none.
    #[default]
    Absent,
    /// The kernel has it, and it was not switched on at boot.
    Off,
    /// This version.
    Version(u8),
}

/// Who made the container that this process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Docker,
    Podman,
    Kubernetes,
}

/// What cures it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remedy {
    /// Why it is so, and what to do, as a clause.
    pub(super) why: String,
    /// What to paste into a shell, or into the file that a comment names.
    pub(super) commands: Vec<String>,
}

impl Remedy {
    fn new(why: impl Into<String>, commands: &[&str]) -> Self {
        Self { why: why.into(), commands: commands.iter().map(|command| (*command).to_owned()).collect() }
    }
}

impl Remedy {
    /// The same, after what the system said.
    pub(super) fn after(mut self, said: &str) -> Self {
        self.why = if self.why.is_empty() { said.to_owned() } else { format!("{said}; {}", self.why) };
        self
    }

    /// With another one, which helps as well.
    pub(super) fn or(&mut self, other: Self) {
        if self.why.is_empty() {
            *self = other;
            return;
        }
        self.why = format!("{}; or: {}", self.why, other.why);
        if !other.commands.is_empty() {
            self.commands.push("# or:".to_owned());
            self.commands.extend(other.commands);
        }
    }
}

impl Situation {
    /// Looks.
    pub(super) fn look(landlock: Landlock) -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let number = |path: &str| text(path)?.trim().parse().ok();
        let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
        let status = text("/proc/self/status").unwrap_or_default();
        let administrator = rustix::thread::capabilities(None)
            .is_ok_and(|held| held.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
        Self {
            kernel: version(&release),
            landlock,
            modules: text("/sys/kernel/security/lsm").map(|names| names.trim().to_owned()),
            knows_user_namespaces: Path::new("/proc/self/ns/user").exists(),
            userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            most_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            container: container(),
            wsl: wsl(&release),
            unit: text("/proc/self/cgroup").as_deref().and_then(unit),
            is_filtered: status.lines().any(|line| line == "Seccomp:\t2"),
            is_administrator: administrator,
        }
    }

    /// Whether user namespaces are switched off for this process.
    pub(super) fn forbids_user_namespaces(&self) -> bool {
        !self.knows_user_namespaces
            || self.most_user_namespaces == Some(0)
            || (self.userns_clone == Some(0) && !self.is_administrator)
    }

    /// Why there are no system call filters.
    pub(super) fn seccomp(&self) -> Remedy {
        match self.wsl {
            Some(1) => self.second_wsl(),
            _ => Remedy::new(
                "the kernel has no system call filters: run one with CONFIG_SECCOMP_FILTER, as all distributions do",
                &[],
            ),
        }
    }

    fn second_wsl(&self) -> Remedy {
        Remedy::new(
            "this is WSL 1, which is no Linux kernel: change the distribution to WSL 2",
            &["wsl.exe --set-version \"$WSL_DISTRO_NAME\" 2   # then open a new window"],
        )
    }

    /// Why there are no namespaces.
    pub(super) fn namespaces(&self) -> Remedy {
        if self.wsl == Some(1) {
            return self.second_wsl();
        }
        if self.kernel < MOUNTS_SINCE && self.kernel != (0, 0) {
            let (major, minor) = self.kernel;
            return Remedy::new(
                format!(
                    "this is Linux {major}.{minor}, and mounts of a program's own take 5.12 or later: run a newer kernel"
                ),
                &[],
            );
        }
        if !self.knows_user_namespaces {
            return Remedy::new(
                "the kernel has no user namespaces: run one with CONFIG_USER_NS, or the server with CAP_SYS_ADMIN",
                &[],
            );
        }
        if self.userns_clone == Some(0) && !self.is_administrator {
            return sysctl("kernel.unprivileged_userns_clone", 1);
        }
        if self.most_user_namespaces == Some(0) {
            return sysctl("user.max_user_namespaces", 15000);
        }
        if let Some(container) = self.container {
            return container.remedy();
        }
        if self.is_filtered
            && let Some(unit) = &self.unit
        {
            return Remedy::new(
                format!(
                    "{unit} lets no namespaces be made (RestrictNamespaces= or SystemCallFilter=): allow them"
                ),
                &[
                    &format!("sudo mkdir -p /etc/systemd/system/{unit}.d"),
                    &format!(
                        "printf '[Service]\\nRestrictNamespaces=no\\nSystemCallFilter=\\n' | \
                         sudo tee /etc/systemd/system/{unit}.d/codex-sandbox.conf"
                    ),
                    &format!("sudo systemctl daemon-reload && sudo systemctl restart {unit}"),
                ],
            );
        }
        if self.apparmor_restricts == Some(1) && !self.is_administrator {
            return apparmor();
        }
        if self.is_filtered {
            return Remedy::new(
                "whoever started this process filters its system calls: have it allow clone, unshare and mounts",
                &[],
            );
        }
        Remedy::new("allow user namespaces, or run the server with CAP_SYS_ADMIN", &[])
    }

    /// Why a namespace for process numbers fails where others are there: mostly `/proc` is masked.
    pub(super) fn pid_namespaces(&self) -> Remedy {
        self.container.map_or_else(
            || Remedy::new("let a new /proc be mounted: nothing may be mounted over parts of /proc", &[]),
            Container::remedy,
        )
    }

    /// Why a network namespace fails where others are there.
    pub(super) fn networks(&self) -> Remedy {
        match self.container {
            Some(container) => container.remedy(),
            None => {
                Remedy::new("let the server have CAP_NET_ADMIN beside CAP_SYS_ADMIN, or user namespaces", &[])
            }
        }
    }

    /// Why Landlock is missing or too old for a version.
    pub(super) fn landlock(&self, needed: u8) -> Remedy {
        let since = match needed {
            1 => "5.13",
            2 => "5.19",
            3 => "6.2",
            4 => "6.7",
            5 => "6.10",
            _ => "6.12",
        };
        if self.landlock != Landlock::Off {
            return Remedy::new(format!("Landlock {needed} comes with Linux {since} and later"), &[]);
        }
        let others = self.modules.as_deref().unwrap_or("lockdown,yama,integrity,apparmor");
        let names = format!("lsm=landlock,{others}");
        let commands = match self.wsl {
            Some(_) => vec![
                "# in %UserProfile%\\.wslconfig, then `wsl.exe --shutdown`:".to_owned(),
                "[wsl2]".to_owned(),
                format!("kernelCommandLine = {names}"),
            ],
            None => vec![
                format!("sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{names} /' /etc/default/grub"),
                "sudo update-grub || sudo grub2-mkconfig -o /boot/grub2/grub.cfg".to_owned(),
                "sudo reboot".to_owned(),
            ],
        };
        Remedy { why: "Landlock is in the kernel, but not switched on at boot".to_owned(), commands }
    }
}

fn sysctl(name: &str, value: u32) -> Remedy {
    Remedy::new(
        format!("{name} is 0, which forbids user namespaces: allow them"),
        &[
            &format!("sudo sysctl -w {name}={value}"),
            &format!("echo {name}={value} | sudo tee /etc/sysctl.d/60-codex-sandbox.conf"),
        ],
    )
}

/// The profile is `packaging/apparmor/codex`.
fn apparmor() -> Remedy {
    Remedy::new(
        "AppArmor lets only programs with a profile make user namespaces \
         (kernel.apparmor_restrict_unprivileged_userns): give this program one",
        &[
            "codex=$(readlink -f \"$(command -v codex)\")",
            "printf 'abi <abi/4.0>,\\nprofile codex %s flags=(unconfined) {\\n  userns,\\n}\\n' \"$codex\" | \
             sudo tee /etc/apparmor.d/codex",
            "sudo apparmor_parser -r /etc/apparmor.d/codex",
        ],
    )
}

impl Container {
    fn remedy(self) -> Remedy {
        match self {
            Self::Docker => Remedy::new(
                "Docker lets no namespaces be made by default: start the container with",
                &["docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                   --security-opt systempaths=unconfined ..."],
            ),
            Self::Podman => Remedy::new(
                "Podman lets nobody mount in a container by default: start it with",
                &["podman run --security-opt seccomp=unconfined --security-opt unmask=ALL \
                   --security-opt label=disable ..."],
            ),
            Self::Kubernetes => Remedy::new(
                "Kubernetes lets no namespaces be made by default: in the container's specification",
                &[
                    "securityContext:",
                    "  seccompProfile: {type: Unconfined}",
                    "  appArmorProfile: {type: Unconfined}",
                    "  procMount: Unmasked   # takes hostUsers: false in the pod",
                ],
            ),
        }
    }
}

/// The first two numbers of a kernel's release; zeros if there are none.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn container() -> Option<Container> {
    if Path::new("/var/run/secrets/kubernetes.io").exists() {
        Some(Container::Kubernetes)
    } else if Path::new("/run/.containerenv").exists() {
        Some(Container::Podman)
    } else if Path::new("/.dockerenv").exists() {
        Some(Container::Docker)
    } else {
        None
    }
}

/// WSL 1 says `4.4.0-19041-Microsoft`, WSL 2 `5.15.90.1-microsoft-standard-WSL2`.
fn wsl(release: &str) -> Option<u8> {
    if release.contains("-Microsoft") { Some(1) } else { release.contains("microsoft").then_some(2) }
}

/// The service in a process's list of control groups; what runs in somebody's session is none.
fn unit(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let last = path.rsplit('/').find(|name| name.ends_with(".service"))?;
    (!last.starts_with("user@")).then(|| last.to_owned())
}
