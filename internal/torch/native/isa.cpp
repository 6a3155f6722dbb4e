// Chooses the instruction set by the processor and the environment.
#include "isa.h"

#include <cstdlib>

#include "common.h"

namespace koala {

namespace {

struct Level {
  const char *name;
  Isa isa;
  bool (*present)();
};

// From best to least.
const Level levels[] = {
    {"v4", Isa::V4, [] { return __builtin_cpu_supports("x86-64-v4") != 0; }},
    {"v3", Isa::V3, [] { return __builtin_cpu_supports("x86-64-v3") != 0; }},
    {"default", Isa::Default, [] { return true; }},
};

// wanted is the name in the environment, empty if there is none.
std::string wanted() {
  const char *name = std::getenv("KOALA_LM_ISA");
  return name != nullptr ? name : "";
}

// chosen is the level of that name, or else the best one. koala_check_isa reports a
// name that is unknown or that the processor lacks: an exception while the library
// loads would end the process without a message.
const Level &chosen() {
  static const Level &level = []() -> const Level & {
    __builtin_cpu_init();
    const std::string name = wanted();
    for (const Level &l : levels)
      if (l.present() && l.name == name)
        return l;
    for (const Level &l : levels)
      if (l.present())
        return l;
    return levels[2];
  }();
  return level;
}

} // namespace

Isa isa() { return chosen().isa; }

} // namespace koala

using namespace koala;

KOALA_API const char *koala_isa(void) { return chosen().name; }

KOALA_API int koala_check_isa(void) {
  return guard([&] {
    const std::string name = wanted();
    if (name.empty() || name == chosen().name)
      return;
    std::string have;
    for (const Level &l : levels)
      if (l.present())
        have += (have.empty() ? "" : ", ") + std::string(l.name);
    throw std::runtime_error("KOALA_LM_ISA=" + name + ": this processor runs " + have);
  });
}
