// Package swarm brings blobs by BitTorrent, from other nests and to them: it
// is the one user of that library. Start with [New]; a [Swarm] is a
// [transfer.Method], and seeds what [Swarm.Seed] is told.
//
// A swarm of ours is private: there is no DHT, no exchange of peers, no uTP,
// no web seed and no port forwarding. Peers are those that the repository's
// tracker names, those that an order names ([TrackerPlace], [PeerPlace]) and
// those that ask in the local network, all of them within the networks that
// are allowed. Connections are not encrypted: nothing in them is secret, and
// everything is checked.
//
// What the library writes goes into the transfer's blob, which checks pieces
// and finds out who lies; what other methods bring is shown to the library,
// so that peers get it too. What is seeded costs nothing until somebody asks
// for it: only then the library hears of it.
//
// The library ends the process on what it takes for impossible. So it runs in
// the fetcher, which is replaced, and a blob that was on its way when the
// fetcher died of a panic too often does without (see suspects).
package swarm
