// Package lua is RPM's embedded Lua interpreter for scriptlets ("-p <lua>"),
// as a process of its own: the program runs itself again with [Command] as
// its first argument, and that process calls [Main], changes into the guest's
// root, reads the script there and runs it. A script that hangs or crashes is
// then killed like any other scriptlet.
//
// The language is that of gopher-lua, which is Lua 5.1 with goto; rpm's is
// 5.2 to 5.4. What scripts for those use of the libraries is added (see
// compat.go); the operators of 5.3 (//, & and so on) are syntax errors, and
// whole numbers print without ".0".
//
// The rpm and posix tables are rpm's (rpm-lua(7)), with these limits:
//
//   - posix.fork works in the form that packages use, and in that form only:
//     see forkStatements. Elsewhere it is an error that names rpm.execute.
//   - rpm.expand knows paths and what the script defined, not rpm's macros.
//   - users and groups are those of /etc/passwd and /etc/group.
//   - rpm.open does not compress.
//   - the libraries bit32 and utf8 are missing.
//   - rpm.interactive, rpm.load, rpm.register, rpm.unregister, rpm.call,
//     rpm.splitargs, rpm.unsplitargs,
//     posix.ctermid, posix.getlogin, posix.mkstemp, posix.pathconf,
//     posix.setgid, posix.setuid, posix.sysconf, posix.times and
//     posix.ttyname are errors that say so.
package lua
