// The agent's decisions; see agent_state.hpp for the states. Sees no process, descriptor, clock or environment.
#include "launcher/agent/agent_state.hpp"

#include <algorithm>
#include <csignal>

namespace llmlaunch::launcher::agent {
namespace {

// The head knows conditions by their Errc; a system call's errno becomes the condition it stands for.
Failed failed_message(const Error& error, std::int64_t rank) {
  Errc code = Errc::io;
  if (error.code.category() == error_category()) {
    code = static_cast<Errc>(error.code.value());
  } else if (error.code == std::errc::not_enough_memory || error.code == std::errc::no_space_on_device ||
             error.code == std::errc::resource_unavailable_try_again || error.code == std::errc::too_many_files_open ||
             error.code == std::errc::too_many_files_open_in_system) {
    code = Errc::out_of_resources;
  }
  const std::string what = error.where.empty() ? error.what : error.where + ": " + error.what;
  return {static_cast<std::int32_t>(code), rank, what, error.hint};
}

std::string in_seconds(std::chrono::milliseconds time) {
  std::string text = std::to_string(time.count() / 1000);
  if (const auto rest = time.count() % 1000; rest != 0) {
    text += "." + std::to_string(1000 + rest).substr(1);
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text + " s";
}

void send(AgentMessage message, Actions& actions) {
  actions.push_back(SendMessage{std::move(message)});
}

// Small frames that the head keeps until it is told that they came.
constexpr std::uint64_t kOrdersUntold = 64;

bool is_signal(int number) {
  return number > 0 && number < NSIG;
}

}  // namespace

Actions AgentState::on_message(HeadMessage message, TimePoint now) {
  if (phase_ == Phase::done || head_lost_) return {};
  if (auto* prepare = std::get_if<Prepare>(&message)) {
    if (phase_ != Phase::waiting) return broken("a second Prepare", now);
    return on_prepare(std::move(*prepare));
  }
  if (is_order(message)) ++orders_;
  if (auto* stop = std::get_if<Stop>(&message)) {
    if (!is_signal(stop->signal)) return broken("Stop with signal " + std::to_string(stop->signal), now);
    return on_stop(*stop, now);
  }
  if (std::holds_alternative<Ping>(message)) return {};
  if (const auto* pause = std::get_if<Pause>(&message)) {
    if (phase_ == Phase::waiting) return broken("a Pause before Prepare", now);
    return on_pause(pause->paused, now);
  }
  if (phase_ == Phase::failed) return {};  // the head may not have read of it yet
  if (auto* resume = std::get_if<Resume>(&message)) {
    if (phase_ != Phase::waiting) return broken("a Resume in the midst of a job", now);
    phase_ = Phase::bearer;
    return {Attach{std::move(*resume)}};
  }
  if (std::holds_alternative<Bye>(message)) {
    if (phase_ != Phase::leaving) return broken("a Bye before Done", now);
    phase_ = Phase::done;
    return {Quit{kExitDone, false}};
  }
  if (auto* chunk = std::get_if<FileChunk>(&message)) {
    if (phase_ != Phase::receiving || chunk->index >= needed_.size() || !needed_[chunk->index])
      return broken("a FileChunk that was not asked for", now);
    return {WriteChunk{std::move(*chunk)}};
  }
  if (auto* go = std::get_if<Go>(&message)) {
    if (phase_ != Phase::ready) return broken("a Go that no Ready was sent for", now);
    return on_go(std::move(*go));
  }
  if (phase_ != Phase::running && phase_ != Phase::leaving) return broken("an Ack or Signal before Go", now);
  if (std::holds_alternative<CarriedData>(message) || std::holds_alternative<CarriedEnd>(message) ||
      std::holds_alternative<CarriedTaken>(message) || std::holds_alternative<CarriedReset>(message)) {
    if (!prepare_.ways.carry) return broken("bytes to be carried, which it has not asked for", now);
    return {Carry{std::move(message)}};
  }
  if (auto* input = std::get_if<Input>(&message)) return {TakeInput{std::move(*input)}};
  if (std::holds_alternative<InputEnd>(message)) return {EndInput{}};
  if (const auto* ack = std::get_if<Ack>(&message)) return on_ack(*ack, now);
  const int number = std::get<Signal>(message).signal;
  if (!is_signal(number)) return broken("Signal with number " + std::to_string(number), now);
  Actions actions;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (ranks_[i].run == RankState::Run::running) actions.push_back(SignalMain{i, number});
    // Before its exec it has no handler yet, and would end.
    if (ranks_[i].run == RankState::Run::starting) ranks_[i].held |= 1ull << (number - 1);
  }
  return actions;
}

Actions AgentState::on_ack(const Ack& ack, TimePoint now) {
  if (ack.output_bytes > sent_bytes_) return broken("an Ack of bytes that were never sent", now);
  acked_bytes_ = std::max(acked_bytes_, ack.output_bytes);
  return {Confirm{ack}};
}

Actions AgentState::on_prepare(Prepare prepare) {
  prepare_ = std::move(prepare);
  ranks_.assign(prepare_.ranks.size(), {});
  if (prepare_.ways.addresses.empty() && !prepare_.ways.carry) reach_.emplace();
  phase_ = Phase::checking;
  ping_at_ = std::min(ping_at_, last_heard_ + ping_interval());
  return {CheckHost{}};
}

Actions AgentState::on_checked(std::vector<std::uint32_t> missing_files, std::uint16_t free_port,
                               std::uint32_t omp_threads) {
  if (phase_ != Phase::checking) return {};
  free_port_ = free_port;
  omp_threads_ = omp_threads;
  Actions actions;
  needed_.assign(prepare_.files.size(), false);
  for (const std::uint32_t index : missing_files) {
    needed_[index] = true;
    send(NeedFile{index}, actions);
  }
  phase_ = Phase::receiving;
  for (Action& action : maybe_ready()) actions.push_back(std::move(action));
  return actions;
}

Actions AgentState::maybe_ready() {
  const bool whole = std::find(needed_.begin(), needed_.end(), true) == needed_.end();
  if (phase_ != Phase::receiving || !whole || !reach_) return {};
  phase_ = Phase::ready;
  return {SendMessage{Ready{free_port_, omp_threads_, *reach_}}};
}

Actions AgentState::on_reached(HeadReach reach) {
  if (reach_ || (phase_ != Phase::checking && phase_ != Phase::receiving)) return {};
  reach_ = std::move(reach);
  return maybe_ready();
}

Actions AgentState::on_file_done(std::uint32_t index) {
  if (phase_ != Phase::receiving) return {};
  needed_[index] = false;
  return maybe_ready();
}

Actions AgentState::on_noise(std::string line) {
  if (phase_ != Phase::checking) return {};
  return {SendMessage{Noise{std::move(line)}}};
}

Actions AgentState::on_failed(const Error& error) {
  if (phase_ != Phase::checking && phase_ != Phase::receiving && phase_ != Phase::bearer) return {};
  phase_ = Phase::failed;
  return {SendMessage{failed_message(error, -1)}};
}

Actions AgentState::on_go(Go go) {
  phase_ = Phase::running;
  Actions actions;
  if (resumable()) actions.push_back(Listen{});
  actions.push_back(StartRanks{std::move(go)});
  return actions;
}

void AgentState::on_forked(std::size_t index, std::string program, TimePoint now) {
  RankState& rank = ranks_[index];
  rank.run = RankState::Run::starting;
  rank.group_alive = true;
  rank.program = std::move(program);
  rank.start_by = now + start_timeout();
}

Actions AgentState::on_started(std::size_t index, std::int64_t pid) {
  RankState& rank = ranks_[index];
  rank.run = RankState::Run::running;
  rank.open_outputs = 2;
  Actions actions;
  if (!head_lost_) send(Started{prepare_.ranks[index].rank, pid}, actions);
  for (int number = 1; number < NSIG; ++number)
    if ((rank.held >> (number - 1) & 1) != 0) actions.push_back(SignalMain{index, number});
  return actions;
}

Actions AgentState::on_start_failed(std::size_t index, const Error& error) {
  ranks_[index].run = RankState::Run::failed;
  ranks_[index].group_alive = false;
  if (head_lost_) return {};
  return {SendMessage{failed_message(error, prepare_.ranks[index].rank)}};
}

// SIGKILL ends a process that waits for NFS, in most of its waits; whom it does not end is named by on_survivors.
void AgentState::abandon_start(std::size_t index, TimePoint now, Actions& actions) {
  RankState& rank = ranks_[index];
  rank.run = RankState::Run::failed;
  rank.kill_at = now + kKillInterval;
  actions.push_back(AbandonStart{index});
  actions.push_back(SignalGroup{index, SIGKILL});
  if (head_lost_) return;
  const Error error = make_error(
      Errc::timed_out, "exec of '" + rank.program + "' did not end within " + in_seconds(start_timeout()), {},
      "the file system that it lies on, or that its interpreter or loader lies on, does not answer; `stat` on the host "
      "hangs as well then. llmlaunch.timeouts.start is how long an exec may take");
  send(failed_message(error, prepare_.ranks[index].rank), actions);
}

Actions AgentState::on_output(std::size_t index, Stream stream, Bytes data) {
  if (head_lost_) return {};
  sent_bytes_ += data.size();
  return {SendMessage{Output{prepare_.ranks[index].rank, stream, std::move(data)}}};
}

Actions AgentState::on_output_end(std::size_t index, Stream stream) {
  --ranks_[index].open_outputs;
  Actions actions;
  if (!head_lost_) send(OutputEnd{prepare_.ranks[index].rank, stream}, actions);
  maybe_done(actions);
  return actions;
}

Actions AgentState::on_input_taken(const InputTaken& taken) {
  Actions actions;
  orders_told_ = orders_;
  send(Taken{orders_}, actions);
  send(taken, actions);
  return actions;
}

Actions AgentState::on_carried(std::vector<AgentMessage> messages) {
  if (head_lost_) return {};
  bool credit = orders_ - orders_told_ >= kOrdersUntold;
  for (const AgentMessage& message : messages) credit = credit || std::holds_alternative<CarriedTaken>(message);
  Actions actions;
  if (credit && connected_) {
    orders_told_ = orders_;
    send(Taken{orders_}, actions);
  }
  for (AgentMessage& message : messages) send(std::move(message), actions);
  return actions;
}

Actions AgentState::on_carrying(bool busy) {
  carrying_ = busy;
  Actions actions;
  if (!busy) maybe_done(actions);
  return actions;
}

Actions AgentState::on_main_exit(std::size_t index, const MainExit& exit, TimePoint now) {
  RankState& rank = ranks_[index];
  rank.run = RankState::Run::exited;
  Actions actions;
  if (!head_lost_) {
    send(Exited{prepare_.ranks[index].rank, exit.signaled, exit.value, exit.core_dumped, rank.stopped,
                exit.wall_time_ns},
         actions);
  }
  // What the rank leaves behind in its group is not wanted any more.
  if (killing_) {
    actions.push_back(SignalGroup{index, SIGKILL});
  } else {
    actions.push_back(SignalGroup{index, SIGTERM});
    actions.push_back(SignalGroup{index, SIGCONT});
    rank.kill_at = now + grace();
  }
  if (all_finished()) {
    actions.push_back(SignalDescendants{killing_ ? SIGKILL : SIGTERM});
    if (!killing_) actions.push_back(SignalDescendants{SIGCONT});
    sweep_at_ = now + (killing_ ? kKillInterval : grace());
    if (kill_all_at_) sweep_at_ = std::min(*sweep_at_, *kill_all_at_);
  }
  return actions;
}

Actions AgentState::on_nobody_left() {
  if (phase_ != Phase::running || nobody_left_ || !all_finished()) return {};
  nobody_left_ = true;
  carrying_ = prepare_.ways.carry;
  for (RankState& rank : ranks_) rank.group_alive = false;
  Actions actions{CloseOutputs{}};
  maybe_done(actions);
  return actions;
}

Actions AgentState::on_stop(const Stop& stop, TimePoint now) {
  Actions actions;
  begin_stop(stop.signal, std::chrono::milliseconds(stop.grace_ms), now, actions);
  return actions;
}

Actions AgentState::on_pause(bool paused, TimePoint now) {
  paused_ = paused;
  ping_at_ = std::min(ping_at_, now + ping_interval());
  Actions actions;
  // A job that is being stopped goes on ending.
  for (std::size_t i = 0; i < ranks_.size() && !kill_all_at_; ++i)
    if (ranks_[i].group_alive) actions.push_back(SignalGroup{i, paused ? SIGSTOP : SIGCONT});
  for (RankState& rank : ranks_) rank.start_by = now + start_timeout();
  if (paused) send(Paused{}, actions);
  return actions;
}

Actions AgentState::on_terminate(TimePoint now) {
  Actions actions;
  if (phase_ != Phase::done) begin_stop(SIGTERM, grace(), now, actions);
  return actions;
}

void AgentState::begin_stop(int signal, std::chrono::milliseconds grace, TimePoint now, Actions& actions) {
  if (phase_ == Phase::leaving) return;
  if (phase_ != Phase::running) return finish(actions);
  paused_ = false;
  kill_all_at_ = kill_all_at_ ? std::min(*kill_all_at_, now + grace) : now + grace;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (ranks_[i].run != RankState::Run::running && ranks_[i].run != RankState::Run::starting) continue;
    ranks_[i].stopped = true;
    actions.push_back(SignalMain{i, signal});
    actions.push_back(SignalGroup{i, SIGCONT});  // a stopped process takes no other signal
  }
  if (sweep_at_) sweep_at_ = std::min(*sweep_at_, *kill_all_at_);
  if (*kill_all_at_ <= now) kill_all(now, actions);
}

void AgentState::kill_all(TimePoint now, Actions& actions) {
  killing_ = true;
  kill_all_at_ = now + kKillInterval;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (!ranks_[i].group_alive) continue;
    ranks_[i].kill_at.reset();
    actions.push_back(SignalGroup{i, SIGKILL});
  }
  kill_descendants(now, actions);
}

void AgentState::kill_descendants(TimePoint now, Actions& actions) {
  actions.push_back(SignalDescendants{SIGKILL});
  if (!survivors_at_) survivors_at_ = now + kKillPatience;
  if (now < *survivors_at_) return;
  actions.push_back(FindSurvivors{});
  survivors_at_ = TimePoint::max();  // once
}

Actions AgentState::on_survivors(const std::vector<std::string>& processes) {
  if (head_lost_ || processes.empty()) return {};
  constexpr std::size_t kMostNamed = 20;
  std::string names;
  for (std::size_t i = 0; i < processes.size() && i < kMostNamed; ++i) names += (i == 0 ? "" : ", ") + processes[i];
  if (processes.size() > kMostNamed) names += ", …";
  Error error =
      make_error(Errc::timed_out, std::to_string(processes.size()) + " processes do not end after SIGKILL: " + names);
  error.hint = "they hang in the kernel, in a dead network mount or a driver; `dmesg` on the host may say where";
  return {SendMessage{failed_message(error, -1)}};
}

void AgentState::finish(Actions& actions) {
  if (phase_ == Phase::done || phase_ == Phase::leaving) return;
  if (!head_lost_) send(Done{}, actions);
  if (phase_ == Phase::running && resumable() && !head_lost_) {  // until the head has heard everything
    phase_ = Phase::leaving;
    return;
  }
  phase_ = Phase::done;
  actions.push_back(Quit{head_lost_ ? kExitHeadLost : kExitDone, !head_deaf_});
}

void AgentState::maybe_done(Actions& actions) {
  if (phase_ != Phase::running || !nobody_left_) return;
  const bool outputs_open =
      std::any_of(ranks_.begin(), ranks_.end(), [](const RankState& rank) { return rank.open_outputs > 0; });
  if ((outputs_open || carrying_) && !head_lost_) return;
  finish(actions);
}

Actions AgentState::on_head_error(const Error& error, TimePoint now) {
  Actions actions;
  if (phase_ == Phase::done || head_lost_) return actions;
  send(failed_message(error, -1), actions);
  // Another version's Prepare is a question that was answered; the head hangs up or stops when it has read that.
  if (error.code == Errc::version_mismatch && phase_ == Phase::waiting) {
    phase_ = Phase::failed;
    return actions;
  }
  lose_head(now, actions);
  return actions;
}

Actions AgentState::broken(const std::string& what, TimePoint now) {
  return on_head_error(make_error(Errc::protocol, "the head sent " + what), now);
}

Actions AgentState::on_cut(TimePoint now) {
  const bool may_come_back = resumable() && !head_lost_ && (phase_ == Phase::running || phase_ == Phase::leaving);
  if (!may_come_back) return on_head_gone(now);
  connected_ = false;
  if (paused_) last_heard_ = now;  // until now its silence meant nothing
  return {};
}

// Compares all of it, whatever differs first.
bool AgentState::knows(const Resume& resume) const {
  const std::string& key = prepare_.resume_key;
  if (head_lost_ || phase_ == Phase::done || key.empty() || resume.key.size() != key.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < key.size(); ++i)
    difference = static_cast<unsigned char>(difference | (key[i] ^ resume.key[i]));
  return difference == 0;
}

Actions AgentState::on_resumed(const Ack& state, TimePoint now) {
  connected_ = true;
  last_heard_ = now;
  ping_at_ = now + ping_interval();
  acked_bytes_ = std::max(acked_bytes_, std::min(state.output_bytes, sent_bytes_));
  orders_told_ = orders_;
  return {SendMessage{Resumed{orders_}}};
}

Actions AgentState::on_head_gone(TimePoint now) {
  Actions actions;
  if (head_deaf_) return actions;
  head_deaf_ = true;
  connected_ = false;
  if (phase_ == Phase::done) {
    actions.push_back(Quit{head_lost_ ? kExitHeadLost : kExitDone, false});
  } else {
    lose_head(now, actions);
  }
  return actions;
}

void AgentState::lose_head(TimePoint now, Actions& actions) {
  if (head_lost_) return;
  head_lost_ = true;
  if (phase_ == Phase::leaving) {
    phase_ = Phase::done;
    actions.push_back(Quit{kExitHeadLost, !head_deaf_});
    return;
  }
  if (kill_all_at_) {  // stopping already: its grace may only become shorter
    kill_all_at_ = std::min(*kill_all_at_, now + grace());
  } else {
    begin_stop(SIGTERM, grace(), now, actions);
  }
  maybe_done(actions);
}

Actions AgentState::on_tick(TimePoint now) {
  Actions actions;
  if (const auto timeout = head_timeout(); timeout && !head_deaf_ && now >= last_heard_ + *timeout) {
    actions = on_head_gone(now);
  }
  if (phase_ == Phase::done) return actions;
  if (!head_lost_ && connected_ && now >= ping_at_) {
    if (resumable() && orders_ > orders_told_)
      send(Taken{orders_}, actions);
    else
      send(Ping{}, actions);
    orders_told_ = orders_;
    ping_at_ = now + ping_interval();
  }
  if (phase_ != Phase::running || nobody_left_) return actions;
  if (kill_all_at_ && now >= *kill_all_at_) kill_all(now, actions);
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    RankState& rank = ranks_[i];
    if (rank.run == RankState::Run::starting && !paused_ && now >= rank.start_by) abandon_start(i, now, actions);
    if (!rank.group_alive || !rank.kill_at || now < *rank.kill_at) continue;
    actions.push_back(SignalGroup{i, SIGKILL});
    rank.kill_at = now + kKillInterval;
  }
  if (sweep_at_ && now >= *sweep_at_) {
    kill_descendants(now, actions);
    sweep_at_ = now + kKillInterval;
  }
  return actions;
}

TimePoint AgentState::next_tick() const {
  TimePoint next = TimePoint::max();
  const auto consider = [&next](const std::optional<TimePoint>& at) {
    if (at) next = std::min(next, *at);
  };
  if (const auto timeout = head_timeout(); timeout && !head_deaf_) consider(last_heard_ + *timeout);
  if (!head_lost_ && connected_ && phase_ != Phase::done) consider(ping_at_);
  if (phase_ != Phase::running || nobody_left_) return next;
  consider(kill_all_at_);
  consider(sweep_at_);
  for (const RankState& rank : ranks_) {
    if (rank.group_alive) consider(rank.kill_at);
    if (rank.run == RankState::Run::starting && !paused_) consider(rank.start_by);
  }
  return next;
}

std::size_t AgentState::output_allowance() const {
  if (head_lost_ || !connected_) return kMaxOutputBytes;
  const std::uint64_t ahead = sent_bytes_ - acked_bytes_;
  const std::uint64_t window = prepare_.window_bytes;
  return ahead >= window ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(window - ahead, kMaxOutputBytes));
}

bool AgentState::all_finished() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const RankState& rank) {
    return rank.run == RankState::Run::exited || rank.run == RankState::Run::failed;
  });
}

std::chrono::milliseconds AgentState::start_timeout() const {
  return std::chrono::milliseconds(prepare_.settings.start_timeout_ms);
}

std::optional<std::chrono::milliseconds> AgentState::head_timeout() const {
  if (phase_ == Phase::waiting) return kHandshakeTimeout;
  if (phase_ == Phase::bearer) return std::nullopt;
  if (prepare_.head_timeout_ms == 0 && phase_ == Phase::done) return kHandshakeTimeout;  // it must take the rest
  if (paused_ && connected_) return std::nullopt;
  if (prepare_.head_timeout_ms == 0) return std::nullopt;
  return std::chrono::milliseconds(prepare_.head_timeout_ms);
}

std::chrono::milliseconds AgentState::ping_interval() const {
  const auto timeout = head_timeout();
  if (!timeout) return kMaxPingInterval;
  return std::clamp(*timeout / 3, std::chrono::milliseconds(10), kMaxPingInterval);
}

}  // namespace llmlaunch::launcher::agent
