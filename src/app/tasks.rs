//! The tasks of a running Davy and how they end: sockets first, then the loop, then an orderly stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use davy_alerting::actuate::Actuator;
use davy_alerting::breaker::Breakers;
use davy_alerting::notify::Notifier;
use davy_alerting::undelivered::Undelivered;
use davy_api::{
    ApiState, DrillRequest, Operation, OperationError, QueryGate, Reload, SilenceRequest, Storage, View,
    ViewHandle,
};
use davy_collector::otlp;
use davy_collector::remote_write;
use davy_collector::remote_write_out::Forwarder;
use davy_collector::scrape::ScrapeManager;
use davy_collector::serve::{ServeLimits, serve};
use davy_model::{Clock, Timestamp};
use davy_store::Store;
use davy_store::control::Control;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::deliver::{Delivery, Memos, Messaging};
use super::drill::{Course, Drills, Jobs};
use super::metrics::{About, Metrics};
use super::own::OwnSeries;
use super::perform::{Performer, Report};
use super::publish::{Bells, Publisher};
use super::rules::Rules;
use super::upkeep::{Upkeep, sign};
use super::watch::{Errand, Watch, dispatcher};
use super::{AppError, Options};
use crate::audit::AuditKeeper;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::sources::Feeds;
use crate::terminal::{Screen, Status, status_lines};

/// Operations and reloads that may wait; more are refused.
const WAITING_MAX: usize = 32;
const DRILL_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest sleep before releases that are due.
const DUE_MIN: Duration = Duration::from_millis(5);
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);
/// How long requests in progress may take to end when Davy stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(options: Options, config: Config) -> Result<(), AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let api = bind("the API", options.listen_address, "--web.listen-address").await?;
    let grpc = bind("OTLP over gRPC", config.otlp.grpc, "`otlp.grpc` in the file").await?;
    let http = bind("OTLP over HTTP", config.otlp.http, "`otlp.http` in the file").await?;
    let (store, control) = open(&options, &config, clock.now()).await?;

    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let metrics = Arc::new(Metrics::default());
    let url = options.external_url.clone().unwrap_or_else(|| format!("http://{}", options.listen_address));
    let about = About { version: env!("CARGO_PKG_VERSION"), external_url: url.clone() };
    let queries = QueryGate::new(options.queries.clone());
    let registry = metrics.register(&about, &queries);
    let view = ViewHandle::default();
    let (operations_tx, operations) = mpsc::channel(WAITING_MAX);
    let (reloads_tx, reloads) = mpsc::channel(WAITING_MAX);

    let scrapes = ScrapeManager::new(store.clone(), clock.clone());
    let jobs = Jobs::new(scrapes.clone(), Vec::new());
    jobs.set_file(config.scrape_configs.clone()).await.map_err(AppError::Scrapes)?;
    let drills = Drills::default();
    let (drills_tx, drill_requests) = mpsc::channel(WAITING_MAX);
    let (silences_tx, silence_requests) = mpsc::channel(WAITING_MAX);
    let course = Course {
        drills: drills.clone(),
        jobs: jobs.clone(),
        view: view.clone(),
        control: control.clone(),
        clock: clock.clone(),
    };
    let forwarder = Forwarder::new(store.clone(), control.clone(), clock.clone());
    forwarder.apply(config.remote_write.clone()).await.map_err(|e| AppError::Forward(e.to_string()))?;
    let receiver = otlp::Receiver::new(store.clone(), clock.clone(), otlp::OtlpLimits::default());
    let (grpc_receiver, grpc_shutdown) = (receiver.clone(), shutdown.clone());
    spawn(&mut tasks, async move {
        if let Err(error) = otlp::serve_grpc(grpc, grpc_receiver, grpc_shutdown).await {
            error!(%error, "OTLP over gRPC ended");
        }
    });
    spawn(
        &mut tasks,
        serve(http, otlp::http_router(receiver.clone()), ServeLimits::default(), shutdown.clone()),
    );

    let remote_write = remote_write::Receiver::new(
        store.clone(),
        clock.clone(),
        &remote_write::RemoteWriteLimits::default(),
    );
    let bell = Arc::new(Notify::new());
    let state = ApiState {
        view: view.clone(),
        scrapes: scrapes.clone(),
        remote_write: remote_write.clone(),
        storage: Storage::new(options.storage_path.clone()),
        store: store.clone(),
        control: control.clone(),
        clock: clock.clone(),
        queries,
        operations: operations_tx,
        drills: drills_tx,
        silences: silences_tx,
        reloads: reloads_tx,
        outbox_bell: bell.clone(),
        registry: registry.clone(),
        version: about.version,
        started: clock.now(),
        report: crate::report::served,
    };
    let messaging = Arc::new(Messaging::new(&config, &url, &control, &clock)?);
    let (messaging_tx, messaging_rx) = watch::channel(messaging);
    let (keeper_control, keeper_options) = (control.clone(), options.clone());
    let keeper = tokio::task::spawn_blocking(move || {
        let Options { storage_path, audit_key_file, audit_checkpoint_file, .. } = keeper_options;
        AuditKeeper::open(
            keeper_control,
            &storage_path,
            audit_key_file.as_deref(),
            audit_checkpoint_file.as_deref(),
        )
    });
    let keeper = keeper.await.map_err(|e| AppError::Ended(e.to_string()))?.map_err(AppError::Audit)?;
    let acted = Arc::new(Notify::new());
    spawn(&mut tasks, sign(keeper, acted.clone(), clock.clone(), shutdown.clone()));
    let retention = config.storage.retention;
    let upkeep =
        Upkeep { store: store.clone(), control: control.clone(), retention, metrics: metrics.clone() };
    let upkeep = upkeep.run(clock.clone(), shutdown.clone());
    spawn(&mut tasks, upkeep);
    if options.terminal {
        let screen =
            draw(view.clone(), scrapes.clone(), store.clone(), clock.clone(), url.clone(), shutdown.clone());
        spawn(&mut tasks, screen);
    }

    let (rules, evaluating) = Rules::start(
        &config,
        &url,
        store.clone(),
        clock.clone(),
        metrics.rule_metrics.clone(),
        shutdown.clone(),
    );
    spawn(&mut tasks, evaluating);
    // Should the rows not be readable, those alerts end by hand; `Watch` says that they are not.
    let undelivered = Undelivered::of(&control.open_alerts().unwrap_or_default());
    let delivery = Delivery {
        control: control.clone(),
        clock: clock.clone(),
        messaging: messaging_rx,
        bell: bell.clone(),
        metrics: metrics.clone(),
        breakers: Breakers::default(),
        undelivered,
        inbox: rules.inbox(),
    };
    spawn(&mut tasks, delivery.run(shutdown.clone()));
    let feeds = Arc::new(Feeds::new(store.clone(), clock.clone()));
    feeds.apply(&config.sources, &config.release_sources).await.map_err(AppError::Sources)?;
    let watch = Watch::new(config, store.clone(), control, clock.now()).with_sources(feeds.states());
    let watch = watch.with_folder(options.storage_path.clone()).with_drills(drills.clone());
    let own = OwnSeries::new(registry, &options.listen_address.to_string(), watch.tick_interval());
    let bells = Arc::new(Bells::default());
    let publisher = Publisher {
        bells: bells.clone(),
        view: view.clone(),
        metrics: metrics.clone(),
        clock: clock.clone(),
        store: store.clone(),
        scrapes: scrapes.clone(),
        receiver,
        remote_write,
        forwarder: forwarder.clone(),
        feeds: feeds.clone(),
        about,
        own,
    };
    let mut brain = Brain {
        watch: Some(watch),
        bells,
        clock,
        scrapes: scrapes.clone(),
        view,
        metrics,
        bell,
        messaging: messaging_tx,
        config_file: options.config_file,
        external_url: url.clone(),
        rules,
        forwarder: forwarder.clone(),
        feeds: feeds.clone(),
        folder: options.storage_path,
        acted,
        jobs,
        course,
    };
    // Whoever is told "ready" is answered from what was read back.
    brain.publish();
    publisher.publish();
    spawn(&mut tasks, publisher.run(shutdown.clone()));
    spawn(&mut tasks, serve(api, davy_api::router(state), ServeLimits::default(), shutdown.clone()));
    info!(%url, "davy is running");
    let requests = Requests { operations, drills: drill_requests, silences: silence_requests, reloads };
    let ended = brain.run(requests, &mut tasks, &shutdown).await;
    // Verdicts may still wait for others to be written with.
    brain.with_watch(|watch, _| watch.write()).await;
    drop(brain);

    info!("stopping");
    shutdown.cancel();
    scrapes.shutdown().await;
    feeds.shutdown().await;
    forwarder.shutdown().await;
    let drained = tokio::time::timeout(DRAIN_MAX, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        warn!("some requests did not end in time and were cut off");
    }
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.flush()).await {
        error!(%error, "what was scraped last could not be written");
    }
    ended
}

async fn bind(
    what: &'static str,
    address: SocketAddr,
    remedy: &'static str,
) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Bind { what, address, remedy, source })
}

async fn open(options: &Options, config: &Config, now: Timestamp) -> Result<(Store, Control), AppError> {
    let (path, storage) = (options.storage_path.clone(), config.storage.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let (store, recovery) = Store::open(&path, now, storage)?;
        let control = Control::open(&path.join("control.db"))?;
        Ok((store, control, recovery))
    });
    let opened: Result<_, davy_store::Error> = opened.await.map_err(|e| AppError::Ended(e.to_string()))?;
    let (store, control, recovery) =
        opened.map_err(|source| AppError::Store { path: options.storage_path.clone(), source })?;
    info!(series = recovery.series, samples = recovery.samples, spans = recovery.spans, "data read back");
    if recovery.quarantined > 0 {
        warn!(records = recovery.quarantined, "records failed their checksum and were set aside");
    }
    Ok((store, control))
}

/// Runs a part whose early end is worth knowing; only the loop in [`Brain::run`] decides when to stop.
fn spawn(tasks: &mut JoinSet<()>, part: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(part);
}

async fn draw(
    view: ViewHandle,
    scrapes: ScrapeManager,
    store: Store,
    clock: Arc<dyn Clock>,
    url: String,
    shutdown: CancellationToken,
) {
    let Some(mut screen) = Screen::open() else { return };
    let started = clock.now();
    while !shutdown.is_cancelled() {
        let (rows, columns) = screen.size();
        let status = Status {
            view: &view.load(),
            targets: &scrapes.targets(),
            url: &url,
            now: clock.now(),
            up: clock.now().since(started),
            series: store.stats().series_active,
        };
        screen.draw(&status_lines(&status, columns, rows));
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(REDRAW_INTERVAL) => {}
        }
    }
}

/// What people and programs ask of it over the API.
struct Requests {
    operations: mpsc::Receiver<Operation>,
    drills: mpsc::Receiver<DrillRequest>,
    silences: mpsc::Receiver<SilenceRequest>,
    reloads: mpsc::Receiver<Reload>,
}

/// The one task that decides.
struct Brain {
    /// `None` only while a blocking thread has it.
    watch: Option<Watch>,
    bells: Arc<Bells>,
    clock: Arc<dyn Clock>,
    scrapes: ScrapeManager,
    view: ViewHandle,
    metrics: Arc<Metrics>,
    bell: Arc<Notify>,
    messaging: watch::Sender<Arc<Messaging>>,
    config_file: PathBuf,
    external_url: String,
    rules: Rules,
    forwarder: Forwarder,
    feeds: Arc<Feeds>,
    /// Where holds are looked for.
    folder: PathBuf,
    /// Rung when a target was called: that is signed at once.
    acted: Arc<Notify>,
    jobs: Jobs,
    course: Course,
}

impl Brain {
    async fn run(
        &mut self,
        mut requests: Requests,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<(), AppError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Runtime)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(AppError::Runtime)?;
        let (done_tx, mut done) = mpsc::channel::<Report>(WAITING_MAX);
        let performer = Performer {
            folder: self.folder.clone(),
            drills: self.course.drills.clone(),
            clock: self.clock.clone(),
            done: done_tx,
        };
        let mut wall = self.clock.now();
        let mut monotonic = tokio::time::Instant::now();
        let mut last_drill_look = monotonic;
        self.drill_when_due();
        let mut next = tokio::time::Instant::now();
        let inbox = self.rules.inbox();
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = tasks.join_next() => {
                    let error = ended.err().map_or_else(|| "a listener stopped".to_owned(), |e| e.to_string());
                    return Err(AppError::Ended(error));
                }
                _ = hangup.recv() => { let _ = self.reload().await; }
                Some(reply) = requests.reloads.recv() => { let _ = reply.send(self.reload().await); }
                Some(request) = requests.drills.recv() => {
                    let begun = match &self.watch {
                        Some(watch) => {
                            self.course.begin(&request.service, request.actor, request.live, watch.config())
                        }
                        None => Err("the decision loop ended early".to_owned()),
                    };
                    self.publish();
                    let _ = request.reply.send(begun);
                }
                Some(request) = requests.silences.recv() => {
                    let change = request.change;
                    let done = self.with_watch(move |watch, now| watch.silence(now, change)).await;
                    let (answer, errands) =
                        done.unwrap_or_else(|| (Err("the decision loop ended early".to_owned()), Vec::new()));
                    self.publish();
                    self.perform(errands, &performer);
                    let _ = request.reply.send(answer);
                }
                Some(operation) = requests.operations.recv() => {
                    let (kind, release) = (operation.kind, operation.release.clone());
                    let (actor, reason) = (operation.actor, operation.reason);
                    let decided = self
                        .with_watch(move |watch, now| watch.operate(now, &release, kind, actor, reason))
                        .await;
                    let answer = match decided {
                        Some(Ok(calls)) => { self.publish(); self.perform(calls, &performer); Ok(()) }
                        Some(Err(error)) => Err(error),
                        None => Err(OperationError::NotRecorded("the decision loop ended early".into())),
                    };
                    let _ = operation.reply.send(answer);
                }
                Some(report) = done.recv() => {
                    let heard = move |watch: &mut Watch, now: Timestamp| match report {
                        Report::Read { release, ticket, state } => watch.read(now, release, ticket, state),
                        Report::Called { release, desired, outcome } => {
                            watch.called(now, release, desired, outcome)
                        }
                    };
                    let calls = self.with_watch(heard).await;
                    self.perform(calls.unwrap_or_default(), &performer);
                    self.publish();
                }
                () = inbox.rung() => {
                    let updates = inbox.take();
                    let calls = self.with_watch(move |watch, now| watch.hear_rules(now, updates)).await;
                    self.publish();
                    self.perform(calls.unwrap_or_default(), &performer);
                }
                () = tokio::time::sleep_until(self.due(next)) => {
                    let targets = self.scrapes.targets();
                    let step = move |watch: &mut Watch, now: Timestamp| watch.step_due(now, &targets);
                    let (errands, decided) = self.with_watch(step).await.unwrap_or_default();
                    self.perform(errands, &performer);
                    if decided {
                        self.publish();
                    }
                }
                () = tokio::time::sleep_until(next) => {
                    let targets = self.scrapes.targets();
                    let began = tokio::time::Instant::now();
                    let now = self.clock.now();
                    let (wall_moved, moved) = (now.since(wall), began.duration_since(monotonic));
                    (wall, monotonic) = (now, began);
                    let tick = move |watch: &mut Watch, now: Timestamp| {
                        watch.clocks(now, wall_moved, moved);
                        watch.tick(now, &targets)
                    };
                    let errands = self.with_watch(tick).await;
                    self.perform(errands.unwrap_or_default(), &performer);
                    self.metrics.ticked(began.elapsed(), next.elapsed());
                    self.publish();
                    self.bells.ticked.notify_one();
                    if last_drill_look.elapsed() >= DRILL_LOOK_INTERVAL {
                        last_drill_look = tokio::time::Instant::now();
                        self.drill_when_due();
                    }
                    let interval = self.watch.as_ref().map_or(Duration::from_secs(1), Watch::tick_interval);
                    // A tick that took longer than the interval is not made up for.
                    next = (next + interval).max(began);
                }
            }
        }
    }

    /// When a release is due, if that is before the tick.
    fn due(&self, tick: tokio::time::Instant) -> tokio::time::Instant {
        let now = self.clock.now();
        let due = self.watch.as_ref().and_then(|watch| watch.due_at(now));
        // Never at once: what is not ready yet must not spin.
        let due = due.map(|at| tokio::time::Instant::now() + at.since(now).max(DUE_MIN));
        due.map_or(tick, |at| at.min(tick))
    }

    /// Begins the drill that has been due for longest, if one is and none runs.
    fn drill_when_due(&self) {
        let Some(watch) = &self.watch else { return };
        let config = watch.config();
        let Ok(known) = self.course.control.drills() else { return };
        self.metrics.publish_drills(&known);
        let now = self.clock.now();
        let due = config.drills.iter().find(|spec| {
            let last = known.iter().find(|k| k.service == spec.service);
            last.is_none_or(|k| now.since(k.at) >= spec.every)
        });
        if let Some(spec) = due {
            let begun = self.course.begin(&spec.service, "schedule".to_owned(), false, config);
            info!(service = spec.service, begun = begun.is_ok(), "a drill is due");
        }
    }

    /// Runs `f` on a blocking thread: deciding reads the store and writes the control database.
    async fn with_watch<T: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Watch, Timestamp) -> T + Send + 'static,
    ) -> Option<T> {
        let (mut watch, now) = (self.watch.take()?, self.clock.now());
        let done = tokio::task::spawn_blocking(move || {
            let out = f(&mut watch, now);
            (watch, out)
        });
        match done.await {
            Ok((watch, out)) => {
                self.watch = Some(watch);
                Some(out)
            }
            Err(error) => {
                // Deciding on a state that a panic left half-done would be worse than deciding nothing.
                error!(%error, "the decision loop ended early; nothing more is judged until a restart");
                None
            }
        }
    }

    fn publish(&self) {
        let Some(watch) = &self.watch else { return };
        let view = View { rules: self.rules.shown(), drills: self.course.drills.shown(), ..watch.view() };
        self.metrics.unwritten.set(i64::try_from(watch.unwritten()).unwrap_or(i64::MAX));
        self.view.store(view);
        self.bells.changed.notify_one();
        self.bell.notify_one();
    }

    fn perform(&self, errands: Vec<Errand>, performer: &Performer) {
        if errands.iter().any(|e| matches!(e, Errand::Call(_))) {
            self.acted.notify_one();
        }
        if !errands.is_empty() {
            performer.perform(errands, &self.messaging.borrow());
        }
    }

    /// All or nothing: a bad file changes nothing and says why.
    async fn reload(&mut self) -> Result<(), String> {
        let read = Config::load(&self.config_file).map_err(|e| e.to_string()).and_then(|config| {
            let messaging = Messaging::new(&config, &self.external_url, &self.course.control, &self.clock)
                .map_err(|e| e.to_string())?;
            Ok((config, Arc::new(messaging)))
        });
        let (config, messaging) = match read {
            Ok(read) => read,
            Err(errors) => {
                self.metrics.reloaded(false);
                error!("the new configuration is refused, the old one stays:\n{errors}");
                return Err(errors);
            }
        };
        if let Err(error) = self.jobs.set_file(config.scrape_configs.clone()).await {
            self.metrics.reloaded(false);
            return Err(error);
        }
        if let Err(error) = self.feeds.apply(&config.sources, &config.release_sources).await {
            self.metrics.reloaded(false);
            return Err(error);
        }
        if let Err(error) = self.forwarder.apply(config.remote_write.clone()).await {
            self.metrics.reloaded(false);
            return Err(error.to_string());
        }
        self.messaging.send_replace(messaging);
        self.rules.apply(&config);
        self.with_watch(move |watch, now| watch.reload(now, config)).await;
        self.metrics.reloaded(true);
        info!("configuration reloaded");
        Ok(())
    }
}

impl Messaging {
    fn new(
        config: &Config,
        external_url: &str,
        control: &Control,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, AppError> {
        let refused = |e: davy_alerting::notify::SetupError| AppError::Receivers(e.to_string());
        let memory = Arc::new(Memos { control: control.clone(), clock: clock.clone() });
        let notifier = Notifier::new(&config.receivers, external_url, clock.clone())
            .map_err(refused)?
            .in_language(config.language)
            .with_memory(memory);
        let actuators = config.actions.iter().map(|spec| {
            let actuator = Actuator::new(spec, external_url, clock.clone()).map_err(refused)?;
            Ok((spec.name.clone(), actuator))
        });
        Ok(Self {
            notifier,
            dispatcher: dispatcher(config),
            language: config.language,
            actuators: actuators.collect::<Result<_, AppError>>()?,
        })
    }
}
