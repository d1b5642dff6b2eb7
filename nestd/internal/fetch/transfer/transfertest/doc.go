// Package transfertest holds what every transfer method must do, whoever is at
// the other end: one suite, run by each method's tests against real sockets
// and real files. Start with [Run].
package transfertest
