// A C face of RocksDB's FaultInjectionTestEnv, which its own C interface leaves out.

#include "utilities/fault_injection_env.h"

#include "util/random.h"

// As in RocksDB's db/c.cc, which keeps it to itself; `rocksdb_env_destroy` deletes both.
struct rocksdb_env_t {
  rocksdb::Env* rep;
  bool is_default;
};

namespace {
rocksdb::FaultInjectionTestEnv* of(rocksdb_env_t* env) {
  return static_cast<rocksdb::FaultInjectionTestEnv*>(env->rep);
}
}  // namespace

extern "C" {

rocksdb_env_t* herdbook_fault_env_new() {
  return new rocksdb_env_t{new rocksdb::FaultInjectionTestEnv(rocksdb::Env::Default()), false};
}

// From now on nothing reaches the disk: writes and syncs fail.
void herdbook_fault_env_stop(rocksdb_env_t* env, bool full) {
  of(env)->SetFilesystemActive(false, full ? rocksdb::Status::NoSpace() : rocksdb::Status::IOError("power cut"));
}

// Leaves what a power cut may leave: of each file what was synced, and, with a seed other than 0, some of what followed; no file
// whose name was not synced. Then the disk works again. All files must be closed.
bool herdbook_fault_env_restart(rocksdb_env_t* env, uint32_t seed) {
  auto* fault = of(env);
  rocksdb::Random random(seed);
  rocksdb::Status status = seed == 0 ? fault->DropUnsyncedFileData() : fault->DropRandomUnsyncedFileData(&random);
  // Deleting wants a disk that works; only this thread uses it now.
  fault->SetFilesystemActive(true);
  if (status.ok()) {
    status = fault->DeleteFilesCreatedAfterLastDirSync();
  }
  fault->ResetState();
  return status.ok();
}

// The disk works again, with everything still there: room was made.
void herdbook_fault_env_resume(rocksdb_env_t* env) { of(env)->SetFilesystemActive(true); }
}
