// The header is C++, too.
#include <llmlaunch_rendezvous.h>

const char* name_of_ok() {
  return llmlaunch_rdv_status_name(LLMLAUNCH_RDV_OK);
}
