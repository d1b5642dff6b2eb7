package testbed

// Bare is a testbed without Stork's programs, for tests of the command line.
var Bare = bare
