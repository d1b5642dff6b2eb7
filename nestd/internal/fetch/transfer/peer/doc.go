// Package peer takes small files from other nests of the same network, and
// gives them what this one has: plain HTTP, each file by its digest. It is for
// what is too small for a swarm. Peers are configured, and only networks that
// are configured are asked and answered; nothing that a peer sends is believed
// before its digest is checked.
//
// [New] is the transfer method, [Documents] asks for metadata, and [Server]
// answers.
package peer
