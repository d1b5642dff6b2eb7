// Package lint holds the house rules that a compiler does not: which room may
// import which, which library belongs to which package, and what may be
// written only through repo/durable. It has tests and nothing else; `make
// lint` and `make test` run them.
package lint
