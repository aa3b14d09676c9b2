// One run from the first connection to the last byte of output. All policy is in JobState; what is here moves bytes.
#include "launcher/job.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "launcher/call_desk.hpp"
#include "launcher/carried_streams.hpp"
#include "launcher/late_signals.hpp"
#include "launcher/ssh/ssh_shell.hpp"
#include "launcher/terminal_columns.hpp"
#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::chrono::milliseconds kTick{100};
// After the last action: for agents of this machine to be gone, so that the caller finds nothing of ours.
constexpr std::chrono::milliseconds kLinger{5'000};
/// So long the end of a job is deaf to signals, once its agents are gone.
constexpr std::chrono::milliseconds kLastWords{1'000};

std::string counted_noun(std::size_t number, const char* noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

std::vector<std::string> host_of_each_rank(const LaunchPlan& plan) {
  std::vector<std::string> hosts(plan.world_size);
  for (const HostPlan& host : plan.hosts)
    for (const RankPlan& rank : host.ranks) hosts[number(rank.rank)] = host.name;
  return hosts;
}

std::vector<std::string> host_names(const LaunchPlan& plan) {
  std::vector<std::string> names;
  for (const HostPlan& host : plan.hosts) names.push_back(host.name);
  return names;
}

// merged.log has the console's prefix, unless that is none: there the lines would be nobody's.
LogMux merged_lines(const LaunchPlan& plan) {
  const std::vector<RankPlace> places = rank_places(plan);
  if (plan.policy == StartPolicy::each_host) return {LinePrefix::of_hosts(places), places.size()};
  const auto pieces = parse_prefix(plan.logs.prefix.value_or("none"));
  const bool own = pieces && !pieces->empty();
  return {own ? LinePrefix(*pieces, places) : LinePrefix(places), places.size()};
}

bool has_live_line(const LaunchOptions& options) {
  return options.live_line && options.gather == nullptr;
}

Console console_of(const LaunchPlan& plan, const LaunchOptions& options) {
  LogSettings logs = plan.logs;
  if (plan.policy == StartPolicy::each_host) {
    logs.prefix_is_host = true;
    logs.ranks.clear();
    logs.fold_lines = false;
  }
  return {logs, rank_places(plan), {options.stdout_colors, options.stderr_colors}, has_live_line(options)};
}

// In a pipe or a file lines are wanted that stay, such as the loss every ten steps; a command of its own on each host
// has none to draw for.
std::size_t columns_for_ranks(const LaunchPlan& plan, const LaunchOptions& options) {
  if (!has_live_line(options) || !Console::shows_updates(plan.logs)) return 0;
  if (plan.policy == StartPolicy::each_host || ::isatty(options.stdout_fd) != 1) return 0;
  const std::size_t columns = terminal_columns(options.stderr_fd);
  const std::size_t used = LinePrefix::of(plan.logs, rank_places(plan)).columns();
  return columns > used ? columns - used : 1;
}

}  // namespace

Job::Job(const LaunchPlan& plan, const LaunchOptions& options, std::shared_ptr<const AgentBinary> agent,
         std::shared_ptr<ssh::SshContext> ssh, PushedFiles files, LogFiles log_files, EventLog events)
    : plan_(plan),
      options_(options),
      agent_(std::move(agent)),
      files_(std::move(files)),
      ssh_(std::move(ssh)),
      state_(plan, files_.size(), log_files.directory(), now(), std::max(std::thread::hardware_concurrency(), 1u)),
      began_(now()),
      writer_(
          merged_lines(plan), console_of(plan, options), std::move(log_files), options.stdout_fd, options.stderr_fd,
          [this](std::vector<std::pair<std::size_t, std::uint64_t>> taken) {
            asio::post(io_, [this, taken = std::move(taken)] { on_taken(taken); });
          },
          no_reader(), options.gather, options.on_said),
      signals_(io_),
      ticker_(io_),
      sessions_(plan.hosts.size()),
      offered_(plan.hosts.size()),
      reached_(plan.hosts.size()),
      carried_(plan.hosts.size()),
      roll_call_(host_names(plan), now()),
      timeline_(plan.job_id, host_names(plan), now()),
      events_(std::move(events)) {
  if (options.gather != nullptr) roll_call_.until_ended();
  if (!each_host()) head_.token = rendezvous::make_token();
  head_.resume_key = rendezvous::make_token();
  head_.resume_name = rendezvous::make_token().substr(0, 16);
  head_.window_bytes = window_bytes(plan.hosts.size());
  head_.terminal_columns = columns_for_ranks(plan, options);
  for (const auto& file : files_) head_.files.push_back(file->spec());
  // From here on nothing of the event loop writes to a terminal itself: that could wait for ever.
  set_log_sink([this](LogLevel level, std::string_view line) {
    writer_.say(level, without_values(std::string(line), plan_.secrets));
  });
}

// A command whose lines nobody takes is ended, as in a pipe of the shell; a job writes its files.
OutputWriter::NoReaderFunction Job::no_reader() {
  if (!each_host()) return {};
  return [this](const Error& error) {
    asio::post(io_, [this, error] {
      if (error.code == Errc::closed) return apply(state_.on_signal(SIGPIPE, now()));
      apply(state_.on_head_failed(make_error(Errc::io, "stdout: " + error.what), now()));
    });
  };
}

// What is said later, of the record of the run, has the same listener.
void Job::end_log_sink() {
  if (!options_.on_said) return set_log_sink(nullptr);
  set_log_sink([said = options_.on_said](LogLevel level, std::string_view line) {
    const std::string text = log_text(level, line);
    said(level, std::string_view(text).substr(0, text.size() - 1));
  });
}

Job::~Job() {
  end_log_sink();
  writer_.finish();  // its thread must not post to an event loop that is gone
}

JobResult Job::run() {
  events_.job_started(plan_, state_.run_directory());
  if (const Result<void> started = each_host() ? ok : start_rendezvous(); !started) {
    apply(state_.on_head_failed(started.error(), now()));
  } else {
    watch_signals();
    spawn_or_die(io_.get_executor(), "job tick", tick());
    greet();
    apply(state_.start(now()));
    while (!finished_) io_.run_one();
    if (!desk_) io_.run_for(kLinger);
    leave_signals();
    if (ssh_) ssh::end_workers(*ssh_);
  }
  JobResult result = state_.result();
  for (HostIndex host = 0; host < addresses_.size(); ++host) result.addresses.push_back(told_address(host));
  keep_timeline(result);
  farewell(result);
  end_log_sink();
  writer_.finish(state_.patience_with_terminal());
  if (writer_.files_incomplete() && result.exit_status == 0) {
    result.exit_status = kStatusLogsIncomplete;
    result.failure = make_error(Errc::io, result.run_directory.empty()
                                              ? "all commands ended well, but their output could not be kept"
                                              : "all ranks ended well, but the log files in " + result.run_directory +
                                                    " are incomplete: output was shown and could not be written");
  }
  events_.job_ended(result);
  return result;
}

Result<void> Job::start_rendezvous() {
  rendezvous::ServerOptions options;
  options.job_id = plan_.job_id;
  options.token = head_.token;
  options.hosts = host_of_each_rank(plan_);
  options.port = plan_.rendezvous_port;
  options.join_timeout = plan_.timeouts.rendezvous;
  options.tcpstore = plan_.use_agent_store;
  // A job that stays on this machine is nobody else's to connect to.
  const bool all_local =
      std::all_of(plan_.hosts.begin(), plan_.hosts.end(), [](const HostPlan& host) { return host.local; });
  if (all_local && plan_.rendezvous_address.empty()) options.bind_address = "127.0.0.1";
  // All ranks come by way of this process, or are on this machine.
  if (plan_.rendezvous_via == RendezvousWay::ssh) options.bind_address = "127.0.0.1";
  if (plan_.per_machine && options_.call_token != nullptr) open_desk(options);
  const std::string bound = options.bind_address;
  Result<std::unique_ptr<rendezvous::Server>> server =
      rendezvous::Server::start(io_.get_executor(), std::move(options));
  if (!server) return server.error();
  server_ = std::move(*server);
  head_.rendezvous_port = server_->port();
  place_pass(bound);
  if (auto own = own_interfaces()) interfaces_ = std::move(*own);
  find_main_addresses();
  return ok;
}

// A job is none the worse for nobody being able to look into it.
void Job::place_pass(const std::string& bind_address) {
  if (state_.run_directory().empty()) return;
  ObserverPass pass;
  pass.job_id = plan_.job_id;
  pass.head = own_host_name();
  pass.pid = ::getpid();
  pass.address = bind_address.empty() ? "127.0.0.1" : bind_address;
  pass.port = head_.rendezvous_port;
  pass.token = head_.token;
  auto placed = PlacedPass::place(state_.run_directory(), pass);
  if (placed)
    pass_ = std::move(*placed);
  else
    log_warning("llmlaunch store cannot look into this job: {}", to_string(placed.error()));
}

// Before the loop turns, as a lookup blocks. A name that only the hosts know is theirs to find: it is handed out as it
// is, and not tried.
void Job::find_main_addresses() {
  if (plan_.rendezvous_address.empty()) return;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(plan_.rendezvous_address.c_str(), nullptr, &hints, &found); failed != 0) {
    return log_debug("main_process_ip {} is not known here, and not tried by the hosts: {}", plan_.rendezvous_address,
                     ::gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr && main_addresses_.size() < agent::kMaxHeadAddresses;
       one = one->ai_next) {
    char text[NI_MAXHOST] = {};
    if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      main_addresses_.emplace_back(text);
  }
}

// False: it names a way that it was not offered.
bool Job::note_reach(HostIndex host, const agent::HeadReach& reach) {
  HostAddresses& reached = reached_[host];
  reached.head = sessions_[host]->shell().head_address();
  reached.interface = reach.interface;
  reached.carried_port = reach.carried_port;
  if ((reach.carried_port != 0) != (carried_[host] != nullptr)) return false;
  if (reach.carried_port != 0)
    log_debug("{}: its ranks come through ssh, from port {} of 127.0.0.1", plan_.hosts[host].name, reach.carried_port);
  if (reach.way == agent::kNotReached) return true;
  if (reach.way >= offered_[host].size()) return false;
  reached.head = offered_[host][reach.way];
  const std::string by = reach.interface.empty() ? "" : ", by " + reach.interface;
  log_debug("{} reaches the rendezvous at {}{}", plan_.hosts[host].name, endpoint(reached.head, head_.rendezvous_port),
            by);
  return true;
}

// Of a host's interfaces. A network would be more than a host is, and what is no address is nobody's.
void Job::note_addresses(const agent::Hello& hello) {
  for (const std::string& address : hello.addresses)
    if (address.find('/') == address.npos) (void)store_clients_.add(address);
}

// All hosts have connected. Their ranks may come from where ssh or their agents say that they are, from this machine,
// and from where the configuration says: a NAT is known to nobody else.
void Job::admit_ranks() {
  addresses_ = reached_;
  for (HostIndex host = 0; host < sessions_.size(); ++host) {
    addresses_[host].host = sessions_[host]->shell().host_address();
    // Behind a jump host it may be a name, which is nobody's address here.
    if (!store_clients_.add(addresses_[host].host)) log_debug("no address: {}", addresses_[host].host);
  }
  settle_addresses(plan_, addresses_, interfaces_);
  for (HostIndex host = 0; host < plan_.hosts.size(); ++host) events_.address(plan_.hosts[host], told_address(host));
  for (const char* loopback : {"127.0.0.0/8", "::1"}) (void)store_clients_.add(loopback);
  for (const InterfaceAddress& own : interfaces_) (void)store_clients_.add(own.address);
  for (const std::string& address : plan_.store_allow_from) (void)store_clients_.add(address);
  if (server_) server_->admit_store_clients(store_clients_);
}

HostAddress Job::told_address(HostIndex host) const {
  return {rendezvous_endpoint(plan_, addresses_[host], head_), addresses_[host].interface};
}

// The machines that call in come to the same port. What their ranks join by is this job's own, made from their token.
void Job::open_desk(rendezvous::ServerOptions& options) {
  options.bind_address = plan_.per_machine->bind_address;
  options.held = options_.port.get();
  options.hint_if_taken = fmt::format(
      "is this machine 0 of another job, or of this one for the second time? 'ss -ltnp' shows who has port {}; another "
      "main_process_port has to be the same on all machines",
      options.port);
  head_.token = options.token = options_.call_token->rank_token(plan_.job_id);
  desk_ = std::make_shared<CallDesk>(
      io_.get_executor(), plan_, *options_.call_token,
      [this](int signal, const std::string& who) { apply(state_.on_signal(signal, now(), who)); });
  options.on_tls = [desk = desk_](asio::ip::tcp::socket socket, std::string from, Bytes begun) {
    desk->take(std::move(socket), std::move(from), std::move(begun));
  };
}

void Job::dismiss(const JobResult& result) {
  if (!desk_) return;
  CallEnd end{static_cast<std::uint32_t>(result.exit_status), {}};
  if (result.failure) {
    const std::string text = without_values(result.failure->what, plan_.secrets);
    end.what = result.failure->where.empty() ? text : result.failure->where + ": " + text;
    end.what = end.what.substr(0, end.what.find('\n'));
  }
  desk_->end(end);
  io_.restart();
  io_.run_for(kLinger);
  desk_->close();
}

void Job::watch_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT}) {
    struct sigaction before {};
    // nohup asked for the one, a shell without job control for the other.
    const bool unwanted = (number == SIGHUP || number == SIGTSTP) && ::sigaction(number, nullptr, &before) == 0 &&
                          before.sa_handler == SIG_IGN;
    if (!unwanted) catch_signal(number);
  }
  for (const int number : plan_.process.forward_signals) catch_signal(number);
  spawn_or_die(io_.get_executor(), "signals", take_signals());
}

void Job::catch_signal(int number) {
  boost::system::error_code error;
  signals_.add(number, error);
  if (!error) caught_.insert(number);
  if (error) log_warning("{} cannot be caught: {}", signal_name(number), error.message());
}

// What is left is to wait for a terminal that may take nothing: soon a signal ends the process as usual. Until here
// they were taken, and nobody looked. One by one, so that each has its default effect for a microsecond alone; what is
// removed, the end of the signal_set leaves as it is.
void Job::leave_signals() {
  boost::system::error_code none;
  for (const int number : caught_) {
    signals_.remove(number, none);
    if (number != SIGTSTP && number != SIGCONT) take_late_signal(number, kLastWords);
  }
}

// As a shell expects it of a job that is stopped. Where no shell could continue this one (its process group is
// orphaned), the kernel drops the signal, and the job goes on at once.
void Job::stop_self() {
  boost::system::error_code none;
  signals_.remove(SIGTSTP, none);  // back to its default
  ::raise(SIGTSTP);
  catch_signal(SIGTSTP);
  apply(state_.on_continued(now()));
}

// A host that reads is asked for more as it takes what it has.
void Job::read_stdin() {
  if (plan_.process.stdin_to == StdinTo::none || finished_) return;
  const std::size_t wanted = state_.input_allowance();
  if (!input_ && wanted > 0) {
    input_ = std::make_unique<InputReader>(io_.get_executor(), options_.stdin_fd, [this](Bytes data) {
      apply(data.empty() ? state_.on_input_end() : state_.on_input(std::move(data)));
    });
  }
  if (input_) input_->want(wanted);
}

asio::awaitable<void> Job::take_signals() {
  while (!finished_) {
    const auto [error, number] = co_await signals_.async_wait(await_tuple);
    if (error) co_return;
    apply(state_.on_signal(number, now()));
  }
}

asio::awaitable<void> Job::tick() {
  while (!finished_) {
    ticker_.expires_after(kTick);
    const auto [error] = co_await ticker_.async_wait(await_tuple);
    if (error) co_return;
    const auto behind = ssh_ ? ssh::workers_behind(*ssh_) : std::chrono::milliseconds{0};
    apply(state_.on_tick(now(), behind));
    look_around(now());
    show_roll_call(now());
    events_.flush();
    if (input_) input_->retry();
  }
}

void Job::greet() {
  if (each_host()) return;
  const std::string where = plan_.rendezvous_address.empty()
                                ? fmt::format("port {}", head_.rendezvous_port)
                                : endpoint(plan_.rendezvous_address, head_.rendezvous_port);
  say(LogLevel::info, fmt::format("{}, {}; rendezvous {}; logs in {}", counted_noun(plan_.hosts.size(), "host"),
                                  counted_noun(plan_.world_size, "rank"), where, state_.run_directory()));
}

void Job::farewell(const JobResult& result) {
  if (result.failure || each_host()) return;  // told by whoever called
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(now() - began_);
  say(LogLevel::info, fmt::format("{} ended well after {:.1f} s", counted_noun(plan_.world_size, "rank"),
                                  static_cast<double>(took.count()) / 1000));
}

void Job::say(LogLevel level, const std::string& text) {
  if (!options_.quiet || level < LogLevel::info) log_line(level, text);
}

}  // namespace llmlaunch::launcher
