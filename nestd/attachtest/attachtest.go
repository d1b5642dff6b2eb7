// Package attachtest is, for tests, the part of a nest that places mounts in
// guests: with it client/share runs its suites against the real placer. Nothing
// that ships imports it.
//
// A test binary that is about to enter a mount namespace of its own calls
// [Serve] before, and [Placer] when it is started with the arguments that
// Serve was given; in the namespace, [Ask].
package attachtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"stork/nestd/internal/attach"
)

// Change is a change of what is mounted.
type Change = attach.Change

// Kind is one kind of change.
type Kind = attach.Kind

// Request is what a guest asks for. Other than a real one, the test says
// itself which layers there are, and which view it has.
type Request struct {
	Layers  string   // directory of the layers, each at ab/<hex>
	View    string   // the guest's view, of which the nest and the guest have the same path
	Changes []Change // at paths in the guest's root directory
}

type server struct {
	placer    []string
	mu        sync.Mutex // guards attachers
	attachers map[string]*attach.Attacher
}

// Serve answers on a unix socket until the program ends. placer is the command
// line of a program that calls [Placer].
func Serve(socket string, placer ...string) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	s := &server{placer: placer, attachers: map[string]*attach.Attacher{}}
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go s.answer(conn)
		}
	}()
	return nil
}

// Placer is the life of a process that the placer's command line starts.
func Placer() int { return attach.PlacerMain(os.Stdin, os.Stdout) }

func (s *server) answer(conn *net.UnixConn) {
	defer conn.Close()
	text := ""
	if err := s.place(conn); err != nil {
		text = err.Error()
	}
	_, _ = io.WriteString(conn, text) // if the guest is gone there is nobody to tell
}

func (s *server) place(conn *net.UnixConn) error {
	var r Request
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return err
	}
	peer, err := attach.PeerOf(conn)
	if err != nil {
		return err
	}
	defer peer.Close()
	a, err := s.attacher(r.Layers)
	if err != nil {
		return err
	}
	return a.Place(context.Background(), peer, attach.Identity{HostUserNS: true}, r.View, r.View, r.Changes)
}

func (s *server) attacher(layers string) (*attach.Attacher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attachers[layers]; a != nil {
		return a, nil
	}
	a, err := attach.Open(context.Background(), layers, s.placer, slog.New(slog.DiscardHandler))
	if err == nil {
		s.attachers[layers] = a
	}
	return a, err
}

// Ask has changes made in the caller's mount namespace.
func Ask(socket string, r Request) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return err
	}
	text, err := io.ReadAll(conn)
	if err == nil && len(text) > 0 {
		err = errors.New(string(text))
	}
	return err
}
