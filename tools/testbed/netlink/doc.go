// Package netlink makes the links of the testbed: pairs of virtual Ethernet
// interfaces between network namespaces, with addresses, routes and a limit
// of bandwidth. It speaks rtnetlink(7) itself, so that the testbed needs no
// program that a fresh machine may lack.
//
// Start with [Dial], on the thread whose network namespace is meant.
package netlink
