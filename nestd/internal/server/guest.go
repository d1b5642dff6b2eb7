package server

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/nest"
	"stork/repo"
)

func guestStatus(c *call) (any, error) {
	return c.server.options.Nest.GuestStatus(c.in.Context(), c.guest)
}

// repository returns the first root's digest that the path names.
func (c *call) repository() (repo.Digest, error) {
	root, err := repo.ParseHex(c.in.PathValue("repository"))
	if err != nil {
		return root, &api.Error{Code: api.BadRequest, Message: err.Error()}
	}
	return root, nil
}

// readFile serves a repository's static tree as the nest holds it.
func readFile(c *call) (any, error) {
	root, err := c.repository()
	if err != nil {
		return nil, err
	}
	path := c.in.PathValue("path")
	b, err := c.server.options.Nest.Read(c.in.Context(), root, path)
	if err != nil {
		return nil, err
	}
	header := c.out.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Length", strconv.Itoa(len(b)))
	if repo.IsDataPath(path) {
		header.Set("Cache-Control", "immutable")
	}
	c.deadline(writeTimeout)
	_, _ = c.out.Write(b) // if the guest is gone there is nobody to tell
	return sent{}, nil
}

func trust(c *call) (any, error) {
	root, err := c.repository()
	if err != nil {
		return nil, err
	}
	known, err := repo.ParseHex(c.in.URL.Query().Get("known"))
	if err != nil {
		known = repo.Digest{} // nothing that it could be
	}
	return c.server.options.Nest.Trust(c.in.Context(), c.guest, root, known)
}

func query(c *call) (any, error) {
	var request api.QueryRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	return c.server.options.Nest.Query(c.in.Context(), c.guest, request)
}

// proof streams documents, each behind its length. What goes wrong after the
// first of them breaks the answer off.
func proof(c *call) (any, error) {
	root, err := c.repository()
	if err != nil {
		return nil, err
	}
	var request api.ProofRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	begun := false
	emit := func(document []byte) error {
		if !begun {
			begun = true
			c.out.Header().Set("Content-Type", "application/octet-stream")
		}
		c.deadline(writeTimeout)
		_, err := out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(document))))
		if err == nil {
			_, err = out.Write(document)
		}
		return err
	}
	err = c.server.options.Nest.Proof(c.in.Context(), root, request, emit)
	if err == nil {
		err = out.Flush()
	}
	if err != nil && begun {
		c.server.options.Log.Warn("proof broken off", "guest", c.guest, "err", err)
		panic(http.ErrAbortHandler)
	}
	return sent{}, err
}

// prepare streams events, one document a line. The status is 200 from the
// first event on; what goes wrong later is the last event.
func prepare(c *call) (any, error) {
	var request api.PrepareRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	if !request.DryRun {
		if err := c.withPeer(func(*attach.Peer) error { return nil }); err != nil {
			return nil, err
		}
	}
	lines := json.NewEncoder(c.out)
	flush := http.NewResponseController(c.out)
	begun := false
	emit := func(e api.Event) error {
		if !begun {
			begun = true
			c.out.Header().Set("Content-Type", "application/x-ndjson")
		}
		c.deadline(writeTimeout)
		if err := lines.Encode(e); err != nil {
			return fmt.Errorf("cannot tell guest: %w", err)
		}
		if e.Prepared != nil && e.Prepared.Cached {
			return nil // one of perhaps hundreds that are there at once: the next that is not, or the end, sends them
		}
		return flush.Flush()
	}
	err := c.server.options.Nest.Prepare(c.in.Context(), c.guest, request, emit)
	if err == nil || !begun {
		if err == nil && !begun {
			c.out.Header().Set("Content-Type", "application/x-ndjson")
			c.out.WriteHeader(http.StatusOK) // nothing was asked for
		}
		return sent{}, err
	}
	wire := nest.Explain(err)
	c.server.options.Log.Warn("prepare failed", "guest", c.guest, "err", err)
	_ = emit(api.Event{Error: wire}) // if the guest is gone there is nobody to tell
	return sent{}, nil
}

// withPeer runs act with the process that opened the connection, which must be
// the guest's root.
func (c *call) withPeer(act func(*attach.Peer) error) error {
	conn, err := c.conn()
	if err != nil {
		return err
	}
	peer, err := attach.PeerOf(conn)
	if err != nil {
		return err
	}
	defer peer.Close()
	if err := c.server.options.Nest.Admit(c.in.Context(), c.guest, peer); err != nil {
		return err
	}
	return act(peer)
}

func attachLayers(c *call) (any, error) {
	var request api.AttachRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	var response *api.AttachResponse
	err := c.withPeer(func(peer *attach.Peer) (err error) {
		response, err = c.server.options.Nest.Attach(c.in.Context(), c.guest, peer, request)
		return err
	})
	return response, err
}

func detachLayers(c *call) (any, error) {
	var request api.DetachRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	return api.Empty{}, c.withPeer(func(peer *attach.Peer) error {
		return c.server.options.Nest.Detach(c.in.Context(), c.guest, peer, request)
	})
}

func setReferences(c *call) (any, error) {
	var request api.References
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	return api.Empty{}, c.withPeer(func(*attach.Peer) error {
		return c.server.options.Nest.References(c.in.Context(), c.guest, request)
	})
}

// environment may take as long as a large merge; who hangs up ends it.
func environment(c *call) (any, error) {
	var request api.EnvironmentRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	var response *api.EnvironmentResponse
	err := c.withPeer(func(peer *attach.Peer) (err error) {
		response, err = c.server.options.Nest.Environment(c.in.Context(), c.guest, peer, request)
		return err
	})
	return response, err
}

func upper(c *call) (any, error) {
	var request api.UpperRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	var response *api.UpperResponse
	err := c.withPeer(func(peer *attach.Peer) (err error) {
		response, err = c.server.options.Nest.Upper(c.in.Context(), c.guest, peer, request)
		return err
	})
	return response, err
}

func placement(c *call) (any, error) {
	var request api.PlacementRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	return api.Empty{}, c.withPeer(func(peer *attach.Peer) error {
		return c.server.options.Nest.Placement(c.in.Context(), c.guest, peer, request)
	})
}
