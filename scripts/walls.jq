# The walls between the crates, over the output of `cargo metadata`: prints one line a violation, nothing if the house stands. Dependencies
# that only tests use (kind "dev") may cross a wall: they are in no library.

# Which crates of the workspace a crate may use: arrows only go down.
def floors: {
  "herdbook-model": [],
  "herdbook-fault-env": [],
  "herdbook-sync": ["herdbook-model"],
  "herdbook-store": ["herdbook-model", "herdbook-fault-env"],
  "herdbook-proto": ["herdbook-model", "herdbook-sync"],
  "herdbook-replica": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto"],
  "herdbook-coordinator": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto", "herdbook-replica"],
  "herdbook-loadtest": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto", "herdbook-replica", "herdbook-coordinator"],
  "herdbook": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto", "herdbook-replica", "herdbook-coordinator", "herdbook-loadtest"],
  "herdbook-peers": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto", "herdbook-replica", "herdbook-coordinator", "herdbook-loadtest"],
  "herdbook-fuzz": ["herdbook-model", "herdbook-sync", "herdbook-store", "herdbook-proto", "herdbook-replica"]
};

# Crates that hold rules and bytes, and so may reach no runtime and no wire, not even through others.
def quiet: ["herdbook-model", "herdbook-sync", "herdbook-store"];
def loud: ["tokio", "tonic", "actix", "actix-rt", "actix-web", "prost", "prost-types"];

# Crates whose errors are for people, so that `anyhow` is allowed.
def outermost: ["herdbook", "herdbook-peers"];

(.packages | map({key: .id, value: .name}) | from_entries) as $name
| (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")) | .pkg]}) | from_entries) as $uses
| [.workspace_members[] | {id: ., name: $name[.]}] as $members

# The shortest way from one package to another, as ids, or empty.
| def way($from; $wanted):
    {seen: {($from): true}, paths: [[$from]], found: null}
    | until(.found != null or (.paths | length) == 0;
        .seen as $seen
        | [.paths[] as $path | $uses[$path[-1]][] | select($seen[.] | not) | $path + [.]] | unique_by(.[-1]) as $next
        | {seen: ($seen + ($next | map({key: .[-1], value: true}) | from_entries)), paths: $next,
           found: ([$next[] | select($name[.[-1]] as $n | $wanted | index($n))] | first)})
    | .found | values;

$members[] as $crate
| (select(floors[$crate.name] == null)
    | "\($crate.name) stands on no floor: give it a line in scripts/walls.jq"),
  ($uses[$crate.id][] | $name[.] as $used
    | select(floors[$crate.name] != null and ($members | any(.name == $used)) and (floors[$crate.name] | index($used) | not))
    | "\($crate.name) may not use \($used): arrows only go down"),
  (select(quiet | index($crate.name)) | way($crate.id; loud)
    | "\($crate.name) may not reach \($name[.[-1]]): \(map($name[.]) | join(" -> "))"),
  ($uses[$crate.id][] | select($name[.] == "anyhow" and (outermost | index($crate.name) | not))
    | "\($crate.name) may not use anyhow: errors below the command are enums with operands")
