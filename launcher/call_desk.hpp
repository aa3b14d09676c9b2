/// \file
/// Machine 0's side of a job whose machines are started one by one: takes the connections of those that call in, checks
/// them, and gives each one a `RemoteShell` (called_in_shell.cpp), so that the job knows them as hosts like any other.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "launcher/call_admission.hpp"
#include "launcher/call_wire.hpp"
#include "launcher/remote.hpp"

namespace llmlaunch::launcher {

/// One machine's place: what its connection brings, and what waits for that.
struct CallLine {
  explicit CallLine(const asio::any_io_executor& executor)
      : changed(executor, std::chrono::steady_clock::time_point::max()),
        taken(executor, std::chrono::steady_clock::time_point::max()) {}

  std::shared_ptr<CallWire> wire;  ///< set: it has called in
  std::optional<Error> refused;    ///< why it may be missing: its call, or that of who has another token
  std::string address;             ///< of the machine, without its port
  std::string who;                 ///< caller_name
  bool started = false;            ///< its agent runs
  std::optional<Error> failed;     ///< its agent does not, or its connection ended
  bool ended = false;              ///< its agent has no more to say
  Bytes inbox;                     ///< of the agent, not yet read
  std::size_t read = 0;            ///< of inbox
  asio::steady_timer changed;      ///< cancelled with each news
  asio::steady_timer taken;        ///< cancelled when the inbox was read
};

/// What a shell of a machine that calls in needs.
struct CalledInPlace {
  std::shared_ptr<CallLine> line;
  std::string name;                       ///< of the host
  std::string head_address;               ///< as the machine was told
  std::function<Error()> not_called;      ///< call_limit is over, and the place is empty
  std::chrono::milliseconds call_limit;   ///< until it has called in
  std::chrono::milliseconds start_limit;  ///< from then until its agent runs
};
std::shared_ptr<RemoteShell> make_called_in_shell(asio::any_io_executor executor, CalledInPlace place);

class CallDesk : public std::enable_shared_from_this<CallDesk> {
 public:
  /// A signal came to the machine `who`: see JobState::on_signal. SIGCONT also stands for one that went away.
  using SignalFunction = std::function<void(int signal, const std::string& who)>;

  /// Descriptors that a desk for so many machines holds at most, whoever connects.
  static constexpr std::size_t most_sockets(std::size_t machines) { return kSpareStrangers + 2 * machines; }

  CallDesk(asio::any_io_executor executor, const LaunchPlan& plan, const CallToken& token, SignalFunction on_signal);

  /// A connection that speaks TLS; see rendezvous::TlsFunction.
  void take(asio::ip::tcp::socket socket, std::string from, Bytes begun);
  std::shared_ptr<RemoteShell> shell(const HostPlan& host);
  /// Why a place is empty as yet, for who waits at machine 0: what has to be started.
  std::string awaited(std::uint32_t machine_rank) const;
  /// Lets the llmlaunch of that machine stop, as SIGTSTP does: its ranks stand.
  void stop_machine(const std::string& who);
  /// Tells all machines how the job ended; their connections end when they have closed them.
  void end(const CallEnd& how);
  void close();

 private:
  using Self = std::shared_ptr<CallDesk>;
  /// An admitted machine. Without a line it waits for its place.
  struct Call {
    CallAdmission::Caller number = 0;
    std::shared_ptr<CallWire> wire;
    CallHello hello;
    std::string from;
    std::shared_ptr<CallLine> line = nullptr;
  };
  /// Unfinished handshakes beside one for each machine; the oldest makes room, so that strangers keep nobody out.
  static constexpr std::size_t kSpareStrangers = 64;
  static asio::awaitable<void> serve(Self self, std::shared_ptr<CallWire> wire, std::string from, Bytes begun);
  static asio::awaitable<void> wait_for_place(Self self, std::shared_ptr<Call> call);
  static asio::awaitable<void> listen(Self self, std::shared_ptr<CallLine> line);
  Result<CallAdmission::Admitted> admit(const Result<CallMessage>& first, Call& call);
  void welcome(std::shared_ptr<Call> call, const CallAdmission::Admitted& admitted);
  void seat(const CallAdmission::Place& place);
  /// Machine 0 says, or has to say for somebody, which machine has which place.
  bool gives_places() const;
  Error not_called(std::uint32_t machine_rank) const;
  void keep_refusal(const CallHello& hello, const Error& why);
  void keep_stranger(const std::string& from, const Error& why);
  void take_message(const CallMessage& message, CallLine& line);
  void take_signal(CallLine& line, std::uint32_t number);
  asio::awaitable<void> refuse(std::shared_ptr<CallWire> wire, Error why);
  void limit_strangers(const std::shared_ptr<CallWire>& wire);
  void say_refusal(const std::string& from, const Error& why);
  std::string missing() const;

  asio::any_io_executor executor_;
  const LaunchPlan& plan_;
  std::shared_ptr<CallTls> tls_;
  SignalFunction on_signal_;
  CallAdmission admission_;
  std::vector<std::shared_ptr<CallLine>> lines_;                    // by machine_rank; that of machine 0 is not used
  std::map<CallAdmission::Caller, std::shared_ptr<Call>> waiting_;  // for a place
  CallAdmission::Caller next_call_ = 1;
  std::deque<std::weak_ptr<CallWire>> strangers_;
  std::size_t said_mistakes_ = 0;
  std::size_t said_noise_ = 0;
  std::set<std::string> refusals_;  // said, without what differs from one attempt to the next
  bool closed_ = false;
};

}  // namespace llmlaunch::launcher
