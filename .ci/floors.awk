# Reads the files of the crate and prints each arrow between modules that `floors` forbids. A module
# is named by its path, as `cache::policy`; what no module of the crate defines is not looked at.

# ===== Reading =====

FNR == 1 {
  here = module_of(FILENAME); file[here] = FILENAME; tree[here] = here
  in_string = in_comment = raw = skipping = tested = inline_depth = 0
  statement = ""
}

{
  line = clean($0)
  if (skipping) { if (ends_skipped(line)) skipping = 0; next }
  if (line ~ /^[ \t]*#\[cfg\((all\()?test[,)]/) { tested = 1; next }
  if (tested && line ~ /^[ \t]*(#\[.*)?$/) next
  if (tested) { tested = 0; skip(line); next }
  track_inline_modules(line)
  if (statement == "" && line ~ /^[ \t]*(pub(\([^)]*\))?[ \t]+)?use[ \t]/) {
    is_public = line ~ /^[ \t]*pub/
    sub(/^[ \t]*(pub(\([^)]*\))?[ \t]+)?use[ \t]+/, "", line)
    statement = " "
  }
  if (statement != "") {
    # Each name carries the line that it stands on.
    statement = statement numbered(line)
    if (line ~ /;/) { expand(statement); statement = "" }
    next
  }
  definitions(line)
  inline_paths(line)
}

function module_of(path) {
  path = substr(path, length(root) + 1)
  sub(/\.rs$/, "", path); sub(/\/mod$/, "", path); gsub(/\//, "::", path)
  return path
}

# The line without comments and without what is in strings.
function clean(text,    out, i, c, two) {
  out = ""
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1); two = substr(text, i, 2)
    if (in_comment) { if (two == "*/") { in_comment = 0; i++ } continue }
    if (in_string) {
      if (!raw && c == "\\") i++
      else if (c == "\"" && (raw < 2 || two == "\"#")) { in_string = 0; out = out "\"" }
      continue
    }
    if (two == "//") break
    if (two == "/*") { in_comment = 1; i++; continue }
    if (substr(text, i, 3) == "\047\"\047") { i += 2; continue }
    if (substr(text, i, 4) == "\047\\\"\047") { i += 3; continue }
    if (c == "\"") {
      in_string = 1
      raw = out ~ /(^|[^A-Za-z0-9_])b?r$/ ? 1 : out ~ /(^|[^A-Za-z0-9_])b?r#+$/ ? 2 : 0
    }
    out = out c
  }
  return out
}

# An item that is compiled for tests alone: its file, or the lines up to its end.
function skip(line,    name) {
  if (line ~ /^[ \t]*(pub(\([^)]*\))?[ \t]+)?mod[ \t]+[A-Za-z0-9_]+;/) {
    name = line; sub(/;.*/, "", name); sub(/.*mod[ \t]+/, "", name)
    test_module[here == "lib" ? name : here "::" name] = 1
    return
  }
  match(line, /^[ \t]*/); skipped_indent = substr(line, 1, RLENGTH)
  skipping = line !~ /[;}][ \t]*$/
}

function ends_skipped(line,    tail) {
  if (substr(line, 1, length(skipped_indent)) != skipped_indent) return 0
  tail = substr(line, length(skipped_indent) + 1)
  return tail ~ /^[^ \t].*[;}][ \t]*$/ || tail ~ /^[})]/
}

# In `mod x { … }` the word `super` means the file.
function track_inline_modules(line,    indent) {
  match(line, /^[ \t]*/); indent = substr(line, 1, RLENGTH)
  if (inline_depth && line == inline_indent[inline_depth] "}") inline_depth--
  if (line ~ /^[ \t]*(pub(\([^)]*\))?[ \t]+)?mod[ \t]+[A-Za-z0-9_]+[ \t]*\{[ \t]*$/)
    inline_indent[++inline_depth] = indent
}

function numbered(line,    out, word) {
  out = ""
  while (match(line, /[A-Za-z_][A-Za-z0-9_]*/)) {
    word = substr(line, RSTART, RLENGTH)
    out = out substr(line, 1, RSTART - 1) word "@" FNR " "
    line = substr(line, RSTART + RLENGTH)
  }
  return out line
}

# A use statement, to one path for each name that it brings.
function expand(text,    count, tokens, i, token, word, path, sp, stack, alias, at, renames, has_leaf) {
  gsub(/::/, " :: ", text); gsub(/[{},;*]/, " & ", text)
  count = split(text, tokens, /[ \t]+/)
  path = ""; sp = 0; alias = ""; renames = has_leaf = 0
  for (i = 1; i <= count; i++) {
    token = tokens[i]
    if (token == "" || token == "::") continue
    if (token == "{") { stack[++sp] = path; has_leaf = 0; continue }
    if (token == "," || token == "}" || token == ";") {
      if (has_leaf) used(path, alias, at)
      if (token == "}") sp--
      path = sp > 0 ? stack[sp] : ""; alias = ""; has_leaf = 0
      continue
    }
    word = token; sub(/@.*/, "", word)
    if (token ~ /@/) { at = token; sub(/.*@/, "", at) }
    if (word == "as") { renames = 1; continue }
    if (renames) { alias = word; renames = 0; continue }
    path = path == "" ? word : path "::" word
    has_leaf = 1
  }
}

function used(path, alias, at,    name) {
  if (path ~ /::self$/) sub(/::self$/, "", path)
  name = path; sub(/.*::/, "", name)
  if (alias == "") alias = name
  if (!inline_depth) imported[here, alias] = path
  arrow(path, at, is_public ? alias : "")
}

function definitions(line,    name, words, count, i) {
  if (match(line, /(struct|enum|union|trait|fn|const|static|type|macro_rules!)[ \t]+[A-Za-z0-9_]+/)) {
    name = substr(line, RSTART, RLENGTH); sub(/.*[ \t]/, "", name)
    defined[here, name] = 1
  }
  count = split(line, words, /[^A-Za-z0-9_]+/)
  for (i = 1; i <= count; i++) mentioned[here, words[i]] = 1
}

function inline_paths(line,    before) {
  before = ""
  while (match(line, /[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)+/)) {
    if (RSTART > 1) before = substr(line, RSTART - 1, 1)
    if (before !~ /[:$.]/) arrow(substr(line, RSTART, RLENGTH), FNR, "")
    line = substr(line, RSTART + RLENGTH); before = " "
  }
}

# `reexported` is the name, if it is handed on and perhaps not used here.
function arrow(path, at, reexported) {
  arrows++
  from[arrows] = here; to[arrows] = path; line_of[arrows] = at
  depth_of[arrows] = inline_depth; only_if_mentioned[arrows] = reexported
}

# ===== Judging =====

END {
  read_floors()
  for (module in tree) check_listed(module)
  for (n = 1; n <= arrows; n++) judge(n)
  for (edge in edges) { split(edge, part, SUBSEP); report_circle(part[1], part[2], part[3], edge) }
}

function read_floors(    count, lines, i, names, n, k) {
  height = 0
  count = split(ENVIRON["FLOORS"], lines, "\n")
  for (i = 1; i <= count; i++) {
    if (lines[i] == "") continue
    height++
    n = split(lines[i], names, " ")
    for (k = 1; k <= n; k++) floor[names[k]] = height
  }
  n = split(ENVIRON["ASIDE"], names, " "); for (k = 1; k <= n; k++) aside[names[k]] = 1
  n = split(ENVIRON["BELOW"], names, " "); for (k = 1; k <= n; k++) below_aside[names[k]] = 1
  n = split(ENVIRON["ABOVE_ASIDE"], names, " "); for (k = 1; k <= n; k++) above_aside[names[k]] = 1
  n = split(ENVIRON["ABOVE"], names, " "); for (k = 1; k <= n; k++) above[names[k]] = 1
}

function is_listed(module) { return module in floor || module in aside || module in above }

function check_listed(module) {
  if (module !~ /::/ && !is_listed(module))
    offence(file[module], 1, module ": it stands on no floor")
}

function is_test(module) {
  for (;;) {
    if (module in test_module) return 1
    if (module !~ /::/) return 0
    sub(/::[^:]*$/, "", module)
  }
}

function offence(file, line, what) { print file ":" line ": " what }

function judge(n,    source, target, name, a, b, why) {
  source = from[n]
  if (is_test(source) || first_of(source) in above) return
  target = resolve(source, to[n], depth_of[n], 0)
  if (target == "") return
  if (target == "lib") {
    offence(file[source], line_of[n], source " -> lib: " to[n] " is imported through lib.rs")
    return
  }
  if (target == source) return
  # What a parent merely hands on from its child it does not use.
  name = only_if_mentioned[n]
  if (name != "" && is_within(target, source) && !((source, name) in mentioned)) return
  a = first_of(source); b = first_of(target)
  if (a != b) {
    why = forbidden(a, b)
    if (why != "") { offence(file[source], line_of[n], source " -> " target ": " why); return }
    if (a in floor && b in floor && floor[a] == floor[b]) connect("lib", a, b, n, source, target)
    return
  }
  for (;;) {
    # Down to the folder in which they part.
    b = step(a, source)
    if (b != step(a, target)) { connect(a, b, step(a, target), n, source, target); return }
    a = b
  }
}

function forbidden(a, b) {
  if (!(is_listed(a) && is_listed(b))) return ""
  if (b in above) return b " is above all"
  if (a in aside) {
    if (b in below_aside || (b in floor && floor[b] == 1)) return ""
    return a " stands on the ground and on " ENVIRON["BELOW"] " alone"
  }
  if (b in aside) return a in above_aside ? "" : "upwards"
  return floor[a] < floor[b] ? "upwards" : ""
}

function is_within(module, parent) { return substr(module, 1, length(parent) + 2) == parent "::" }

# The child of `parent` on the way to `module`, or the parent itself.
function step(parent, module,    tail) {
  if (module == parent) return parent
  tail = substr(module, length(parent) + 3); sub(/::.*/, "", tail)
  return parent "::" tail
}

# The module that defines what a path names; "" if that is not of this crate.
function resolve(at, path, depth, hops,    first, has_keyword) {
  if (hops > 8) return ""
  while ((first = first_of(path)) ~ /^(crate|self|super)$/) {
    has_keyword = 1
    if (first == "crate") { at = "lib"; depth = 0 }
    else if (first == "super" && depth > 0) depth--
    else if (first == "super") at = parent_of(at)
    if (path !~ /::/) return at
    path = rest_of(path)
  }
  # A bare name is a child of this module, or what another crate brings.
  if (!has_keyword && !(to_child(at, first) in tree)) return ""
  while (to_child(at, first) in tree) {
    at = to_child(at, first)
    if (path !~ /::/) return at
    path = rest_of(path); first = first_of(path)
  }
  if (at != "lib" && !((at, first) in defined) && (at, first) in imported)
    return resolve(at, imported[at, first], 0, hops + 1)
  return at
}

function to_child(module, name) { return module == "lib" ? name : module "::" name }

function parent_of(module) {
  if (module !~ /::/) return "lib"
  sub(/::[^:]*$/, "", module)
  return module
}

function first_of(path) { sub(/::.*/, "", path); return path }

function rest_of(path) { sub(/^[^:]*::/, "", path); return path }

# ===== Circles =====

function connect(folder, a, b, n, source, target) {
  if (a == b) return
  edges[folder, a, b] = edges[folder, a, b] n " "
  neighbours[folder, a] = neighbours[folder, a] b " "
  text_of[n] = source " -> " target
}

function report_circle(folder, a, b, edge,    way, count, numbers, i, n) {
  way = route(folder, b, a)
  if (way == "") return
  count = split(edges[edge], numbers, " ")
  for (i = 1; i <= count; i++) {
    n = numbers[i]
    offence(file[from[n]], line_of[n], text_of[n] ": a circle, " a " -> " way)
  }
}

# The shortest way from one to another, written down; "" if there is none.
function route(folder, start, goal,    queue, head, tail, seen, node, count, next_nodes, i) {
  head = 1; tail = 1; queue[1] = start; seen[start] = start
  while (head <= tail) {
    node = queue[head++]
    if (node == goal) return seen[node]
    count = split(neighbours[folder, node], next_nodes, " ")
    for (i = 1; i <= count; i++)
      if (!(next_nodes[i] in seen)) {
        seen[next_nodes[i]] = seen[node] " -> " next_nodes[i]
        queue[++tail] = next_nodes[i]
      }
  }
  return ""
}
