//! The story: puts everything on the stage in order, looks around a few times a second, acts when it is time,
//! and clears up whatever happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt;
use standardwebhooks::Webhook;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::davy::{Davy, Ports};
use super::file::{self, Action, Places};
use super::fleet::{self, Fleet, FleetSpec};
use super::inbox::Inbox;
use super::load::Load;
use super::ramp::Decision;
use super::record::{Arrival, Call, Injection, Look, Record, Tone};
use super::screen::Screen;
use super::script::{self, Step};
use super::service::Fault;
use super::splitter::{self, Builtin, Change, Found, Haproxy, Socket, Split, Splitter, View};
use super::summary::Summary;
use super::workdir::Workdir;
use super::{DemoArgs, DemoError, ending, http_client};

/// Processes of each version.
const INSTANCES: u32 = 3;
/// What the load generator asks for; more than a small service gets, little enough for two cores.
const REQUESTS_PER_SECOND: f64 = 240.0;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ended { ok: bool },
    Interrupted,
}

pub(super) async fn play(args: DemoArgs) -> Result<Outcome, DemoError> {
    let mut interrupted = Interrupt::listen()?;
    let mut stage = tokio::select! {
        stage = Stage::set(&args) => stage?,
        () = interrupted.wait() => return Ok(Outcome::Interrupted),
    };
    let mut screen = Screen::open(args.headless, args.duration);
    let played = tokio::select! {
        played = stage.play(args.duration, &mut screen) => played.map(|()| true),
        () = interrupted.wait() => Ok(false),
    };
    screen.show(&stage.record);
    screen.close(&stage.record);
    let (record, workdir) = stage.clear().await;
    if !played? {
        return Ok(Outcome::Interrupted);
    }

    let record = record?;
    let summary = Summary::of(&record, ending::problems(&record));
    println!("\n{}", summary.to_text());
    if workdir.is_kept() {
        println!("configuration, logs and data: {}", workdir.path().display());
    }
    if let Some(file) = args.json {
        fs::write(&file, summary.to_json()).map_err(DemoError::io(file.display().to_string()))?;
    }
    Ok(Outcome::Ended { ok: summary.ok })
}

/// Ctrl-C, or a service manager's request.
struct Interrupt {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn listen() -> Result<Self, DemoError> {
        let listen = |kind| signal(kind).map_err(DemoError::io("signal handler"));
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// Everything that runs. Fields are dropped in order: the load first, the folder last.
struct Stage {
    load: Load,
    splitter: Splitter,
    davy: Davy,
    baseline: Fleet,
    canary: Option<Fleet>,
    inbox: Inbox,
    client: reqwest::Client,
    record: Record,
    started: Instant,
    fleets: FleetPlan,
    targets: PathBuf,
    workdir: Workdir,
}

impl Stage {
    /// Starts everything but the canary: inbox, splitter, Davy, the baseline, the load.
    async fn set(args: &DemoArgs) -> Result<Self, DemoError> {
        let (about, haproxy) = splitter::choose(args.splitter)?;
        let workdir = Workdir::create(args.keep.as_deref()).map_err(DemoError::io("the demo's folder"))?;
        let mut record = Record::new(args.scenario, args.seed, args.weight, about);
        let client = http_client()?;
        let secret = signing_secret();
        let webhook = || Webhook::new(&secret).expect("32 hexadecimal digits are valid base64");
        let inbox = Inbox::start(webhook()).await.map_err(DemoError::io("the inbox"))?;
        let front = match haproxy {
            Some(found) => Front::Haproxy { found, socket: Socket::within(workdir.path())? },
            None => Front::Builtin(
                Builtin::start(Split::new(args.seed), webhook(), client.clone())
                    .await
                    .map_err(DemoError::io("the splitter"))?,
            ),
        };

        let ports = Ports::choose().await?;
        let targets = workdir.path().join("targets.json");
        write_targets(&targets, &file::targets(&record.service, []))?;
        let places = Places {
            targets: &targets,
            service: &record.service,
            action: front.action(&record),
            ramp: &record.ramp.planned,
            inbox: inbox.http,
            smtp: inbox.smtp.address,
            signing_secret: &secret,
        };
        let config = file::config(&places, &ports);
        let davy = Davy::start(workdir.path(), &config, &ports, client.clone()).await?;

        let fleets = FleetPlan {
            otlp: format!("http://{}", ports.otlp_grpc),
            seed: args.seed,
            rounds: fleet::calibrate(),
            logs: workdir.path().to_owned(),
        };
        let baseline = fleets.start(&record.service, &record.baseline, 1).await?;
        let splitter = front.open(workdir.path(), &record, &baseline).await?;
        let serving = file::targets(&record.service, [(&*record.baseline, baseline.addresses())]);
        write_targets(&targets, &serving)?;
        let url = format!("http://{}/checkout", splitter.traffic());
        let load = Load::start(client.clone(), url, REQUESTS_PER_SECOND, args.seed);
        let text = format!("splitter: {}, {}", record.splitter.name(), record.splitter.why);
        record.say(Duration::ZERO, Tone::Plain, text);
        let text = format!("{} serves: {INSTANCES} instances, all of the traffic", record.baseline);
        record.say(Duration::ZERO, Tone::Plain, text);
        let (canary, started) = (None, Instant::now());
        Ok(Self {
            load,
            splitter,
            davy,
            baseline,
            canary,
            inbox,
            client,
            record,
            started,
            fleets,
            targets,
            workdir,
        })
    }

    /// Until the story is told, lost or out of time.
    async fn play(&mut self, duration: Duration, screen: &mut Screen) -> Result<(), DemoError> {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.davy.check_alive()?;
            self.look().await?;
            match script::next(&self.record, self.started.elapsed(), duration) {
                Step::Wait => {}
                Step::Deploy => self.deploy().await?,
                Step::Inject(fault) => self.inject(fault).await?,
                Step::End => return Ok(()),
            }
            screen.show(&self.record);
        }
    }

    async fn look(&mut self) -> Result<(), DemoError> {
        let release = match self.davy.release(&self.record.service).await {
            Ok(release) => release,
            Err(reason) => {
                self.record.blind(reason);
                None
            }
        };
        let view = self.splitter.look().await?;
        let calls = self.calls(&view);
        let decision = match &release {
            // What led to a change was on record before it was made.
            Some(release) if calls.len() > self.record.calls.len() => {
                self.decision(&release.id.clone()).await
            }
            _ => None,
        };
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let arrivals: Vec<Arrival> =
            self.inbox.letters().into_iter().map(|letter| Arrival { at: since(letter.at), letter }).collect();
        let (at, load) = (self.started.elapsed(), self.load.counts());
        let mut look = Look { at, release, load, ..Look::default() };
        look.see(&view, &self.record.baseline, &self.record.canary);
        self.record.look(look, calls, decision, arrivals);
        self.record.refused = self.inbox.refused();
        Ok(())
    }

    fn calls(&self, view: &View) -> Vec<Call> {
        let since = |at: Instant| at.saturating_duration_since(self.started);
        view.changes.iter().map(|change| Call { at: since(change.at), change: change.clone() }).collect()
    }

    async fn decision(&mut self, release: &str) -> Option<Decision> {
        match self.davy.decision(release).await {
            Ok(point) => point.map(|point| Decision { verdict: point.verdict, reason: point.reason }),
            Err(reason) => {
                self.record.blind(reason);
                None
            }
        }
    }

    /// Starts the canary, gives it a place in the splitter, and tells Davy's file where it is.
    async fn deploy(&mut self) -> Result<(), DemoError> {
        let Record { service, baseline, canary, .. } = &self.record;
        let fleet = self.fleets.start(service, canary, 2).await?;
        self.splitter.deploy(canary, &fleet).await?;
        let versions = [(&**baseline, self.baseline.addresses()), (&**canary, fleet.addresses())];
        write_targets(&self.targets, &file::targets(service, versions))?;
        self.canary = Some(fleet);
        self.record.deployed(self.started.elapsed(), INSTANCES);
        Ok(())
    }

    async fn inject(&mut self, fault: Fault) -> Result<(), DemoError> {
        let canary_requests = self.record.last.canary.requests;
        let share = self.record.ramp.in_force().map_or(0, |step| step.share);
        let at = self.started.elapsed();
        if let Some(fleet) = &self.canary {
            fleet.inject(&self.client, fault).await?;
        }
        self.record.injected(Injection { at, share, canary_requests }, &describe(fault));
        Ok(())
    }

    /// Ends everything, Davy before those whom it calls; the splitter's last word is on record then.
    async fn clear(mut self) -> (Result<Record, DemoError>, Workdir) {
        drop(self.load);
        self.davy.stop().await;
        let view = self.splitter.look().await;
        self.splitter.stop().await;
        let started = self.started;
        let record = view.map(|view| {
            let call = |change: &Change| Call {
                at: change.at.saturating_duration_since(started),
                change: change.clone(),
            };
            let calls = view.changes.iter().map(call).collect();
            self.record.settle(&view, calls);
            self.record
        });
        (record, self.workdir)
    }
}

/// The splitter before it has anyone behind it.
enum Front {
    Builtin(Builtin),
    Haproxy { found: Found, socket: Socket },
}

impl Front {
    /// What Davy's file says of it.
    fn action(&self, record: &Record) -> Action<'_> {
        match self {
            Self::Builtin(splitter) => Action::Webhook { admin: splitter.admin },
            Self::Haproxy { socket, .. } => Action::Haproxy {
                socket: socket.path(),
                backend: record.service.clone(),
                baseline: splitter::servers(&record.baseline, INSTANCES as usize),
                canary: splitter::servers(&record.canary, INSTANCES as usize),
            },
        }
    }

    async fn open(self, folder: &Path, record: &Record, baseline: &Fleet) -> Result<Splitter, DemoError> {
        match self {
            Self::Builtin(splitter) => {
                splitter.with(|split| split.deploy(&record.baseline, baseline.base_urls()));
                Ok(Splitter::Builtin(splitter))
            }
            Self::Haproxy { found, socket } => {
                let servers = (&*record.baseline, &*baseline.addresses());
                let (service, canary) = (&record.service, &record.canary);
                let haproxy = Haproxy::start(&found, folder, socket, service, servers, canary).await?;
                Ok(Splitter::Haproxy(Box::new(haproxy)))
            }
        }
    }
}

/// What both versions' processes have in common.
struct FleetPlan {
    otlp: String,
    seed: u64,
    rounds: u32,
    logs: PathBuf,
}

impl FleetPlan {
    async fn start(&self, service: &str, version: &str, number: u64) -> Result<Fleet, DemoError> {
        Fleet::start(&FleetSpec {
            service,
            version,
            instances: INSTANCES,
            otlp: &self.otlp,
            // No two instances of a story draw the same latencies.
            seed: self.seed.wrapping_mul(1_000).wrapping_add(number * 100),
            rounds: self.rounds,
            logs: &self.logs,
        })
        .await
    }
}

fn describe(fault: Fault) -> String {
    match fault {
        Fault::Errors(share) => format!("{:.0} % of the requests fail", share * 100.0),
        Fault::Latency(factor) => format!("the tail gets longer, p99 times {factor}"),
        Fault::Cpu(factor) => format!("each request does its work {factor} times"),
        Fault::Leak(bytes) => format!("each request keeps {:.0} KiB", bytes / 1024.0),
    }
}

/// Written aside and renamed: Davy must never read half a file.
fn write_targets(path: &Path, text: &str) -> Result<(), DemoError> {
    let aside = path.with_extension("new");
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(DemoError::io(path.display().to_string()))
}

/// Made for this story only; it never leaves the machine.
fn signing_secret() -> String {
    format!("whsec_{:032x}", rand::rng().random::<u128>())
}
