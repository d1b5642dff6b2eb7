package repo

// Version is the version of this build, set by the linker (see Makefile). It
// is a variable for that reason only; nothing assigns it at run time.
var Version = "devel"
