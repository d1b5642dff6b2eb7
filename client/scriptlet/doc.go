// Package scriptlet runs the programs that packages bring for their own
// installation and removal, in the guest, as rpm runs them: the same
// arguments, file descriptors, directory, PATH and umask (rpm-scriptlets(7)
// and lib/rpmscript.c).
// Scriptlets in RPM's embedded Lua run in a process of this program itself,
// whose command line must hand that command to package lua.
//
// Use [Supported] before anything is changed, then [Runner.Run].
package scriptlet
