// Gloo's types as far as c10d's ProcessGroupGloo.hpp asks for them. The wheel has
// the library, inside libtorch_cpu, but not its headers. c10d holds them by
// pointer, so the size of nothing that is compiled here depends on them, and no
// call to them is: they may only be named. (Class Store is a base in c10d's
// GlooStore, which libtorch alone makes.)
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
public:
  void setTimeout(std::chrono::milliseconds);
};

namespace transport {
class Device;
class UnboundBuffer;
} // namespace transport

namespace rendezvous {
class Store {
public:
  virtual ~Store();
  virtual void set(const std::string &, const std::vector<char> &) = 0;
  virtual std::vector<char> get(const std::string &) = 0;
  virtual void wait(const std::vector<std::string> &) = 0;
  virtual void wait(const std::vector<std::string> &, const std::chrono::milliseconds &) = 0;
};
} // namespace rendezvous

} // namespace gloo
