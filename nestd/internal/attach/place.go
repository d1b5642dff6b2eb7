package attach

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Change is a change of what is mounted at one path of a guest.
type Change struct {
	Kind   Kind   `json:"kind"`
	Path   string `json:"path"`             // in the guest, absolute and clean; no part of it may be a symlink
	Layer  string `json:"layer,omitempty"`  // package ID in hexadecimal
	Source string `json:"source,omitempty"` // path in the layer
}

// Kind is one kind of change.
type Kind string

// The kinds. Only what the nest has placed is ever taken away.
const (
	Place   Kind = "place"   // over whatever is there
	Replace Kind = "replace" // instead of the topmost mount
	Relieve Kind = "relieve" // the same, and there must be one
	Remove  Kind = "remove"  // the topmost mount goes
	Clear   Kind = "clear"   // all of them go, down to the first that is not the nest's
)

// mounts reports whether something appears by the change.
func (k Kind) mounts() bool { return k == Place || k.replaces() }

func (k Kind) replaces() bool { return k == Replace || k == Relieve }

// Times of a placement. Only a guest that holds up the kernel itself, by
// locks of its own files, takes longer than a moment: it then waits alone.
const (
	placeAnswer = 10 * time.Second // after which the guest is told that nothing came of it
	placeKill   = 20 * time.Second
)

// maxPlacers is how many placers run at the same moment, not counting those
// whose guest holds them up.
const maxPlacers = 32

// maxPlaceAnswer bounds what a placer says, in bytes.
const maxPlaceAnswer = 64 << 10

// Place changes what of layers is mounted in a guest, in order, and stops at
// the first change that fails. What is so already stays, so it can be
// repeated. View and identity are as with [Attacher.Attach]. The peer must
// have connected as the guest's root: what is mounted over a program or its
// configuration is believed by all of the guest.
//
// All of it is done by a process of its own, the placer, since a guest decides
// how long a lookup in its directories takes, or a mount on its files: whoever
// reads a directory into memory that a program of his own provides holds the
// directory's lock meanwhile, and who waits for that can not be killed.
//
// Errors wrap [ErrNotEntitled], [ErrNotAttached], [ErrUnsupported],
// [ErrNoLayer] and [ErrTarget], or are failures of the host.
func (a *Attacher) Place(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, changes []Change) error {
	for i := range changes {
		if err := changes[i].check(); err != nil {
			return fmt.Errorf("cannot place in the guest: %w", err)
		}
	}
	answer, end := context.WithTimeout(ctx, placeAnswer)
	defer end()
	unlock, err := a.guests.lock(answer, hostView)
	if err != nil {
		return late(ctx, err)
	}
	held, err := peer.dup()
	if err != nil {
		unlock()
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer unlock()
		done <- errors.Join(a.place(ctx, held, want, hostView, guestView, changes), held.Close())
	}()
	select {
	case err = <-done:
	case <-answer.Done():
		return late(ctx, answer.Err())
	}
	if err != nil {
		return fmt.Errorf("cannot place in the guest: %w", err)
	}
	return nil
}

// late is the error for who has waited long enough, or waits no more.
func late(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("cannot place in the guest: its files do not answer (%w): %w", err, ErrNotAttached)
}

// check refuses what is no path, layer or kind.
func (c *Change) check() error {
	isPath := func(p string) bool {
		return len(p) > 1 && len(p) < unix.PathMax && p[0] == '/' && path.Clean(p) == p && !strings.ContainsRune(p, 0)
	}
	switch {
	case !isPath(c.Path):
		return fmt.Errorf("%.100q is no path: %w", c.Path, ErrTarget)
	case c.Kind == Remove || c.Kind == Clear:
		return nil
	case !c.Kind.mounts():
		return fmt.Errorf("%.100q is no kind of change: %w", c.Kind, ErrTarget)
	case !isLayerName(c.Layer):
		return fmt.Errorf("%.100q is no package ID: %w", c.Layer, ErrNoLayer)
	case !isPath(c.Source):
		return fmt.Errorf("%.100q is no path in a layer: %w", c.Source, ErrNoLayer)
	}
	return nil
}

// place runs one placer. It must not look at anything that the guest controls.
func (a *Attacher) place(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, changes []Change) error {
	leave, err := a.placing(ctx)
	if err != nil {
		return err
	}
	defer leave()
	g, err := a.openGuest(peer, want)
	if err != nil {
		return err
	}
	defer g.close()
	if !g.byRoot {
		return fmt.Errorf("only the guest's root may change its mounts: %w", ErrNotEntitled)
	}
	host, err := openHostView(hostView)
	if err != nil {
		return err
	}
	defer host.Close()
	made, err := inodeOf(int(host.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the view: %w", err)
	}
	pid, err := peer.pid()
	if err != nil {
		return err
	}
	table, err := openProc("/proc/"+strconv.Itoa(pid)+"/mountinfo", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer table.Close()
	if err := peer.alive(); err != nil {
		return err
	}
	request := placeRequest{
		Changes: changes, View: guestView, ViewDev: made.dev, ViewIno: made.ino,
		StoreDev: a.storeDev, StoreRoot: a.storeRoot, HostUsers: g.host, SameRoot: g.sameID,
	}
	// Not ctx: what was begun is finished.
	life, end := context.WithTimeout(context.WithoutCancel(ctx), placeKill)
	defer end()
	return a.runPlacer(life, &request, []*os.File{a.workers.locked, g.mounts, g.users, g.root, peer.pidfd, table})
}

// placing waits for one of the places of placers. One that its guest holds up
// gives its place back, for otherwise few such guests would stop all others.
func (a *Attacher) placing(ctx context.Context) (leave func(), err error) {
	select {
	case a.placers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stuck := time.AfterFunc(placeAnswer, func() { <-a.placers })
	return func() {
		if stuck.Stop() {
			<-a.placers
		}
	}, nil
}

func (a *Attacher) runPlacer(ctx context.Context, request *placeRequest, files []*os.File) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("cannot start a placer: %w", err)
	}
	cmd := exec.CommandContext(ctx, a.placer[0], a.placer[1:]...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = []string{}, "/", files
	cmd.Stdin = bytes.NewReader(data)
	cmd.WaitDelay = time.Second
	answer := &bounded{limit: maxPlaceAnswer}
	cmd.Stdout = answer
	runErr := cmd.Run()
	var response placeResponse
	if err := json.Unmarshal(answer.Bytes(), &response); err != nil {
		return fmt.Errorf("the placer failed: %w", cmp.Or(runErr, err))
	}
	return response.err()
}

// bounded is a buffer that takes no more than its limit.
type bounded struct {
	bytes.Buffer
	limit int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, errors.New("too much was said")
	}
	return b.Buffer.Write(p)
}

// placeRequest is what a placer reads, beside its descriptors.
type placeRequest struct {
	Changes   []Change `json:"changes"`
	View      string   `json:"view"` // path in the guest
	ViewDev   uint64   `json:"view_dev"`
	ViewIno   uint64   `json:"view_ino"`
	StoreDev  string   `json:"store_dev"`  // major:minor of the store's file system
	StoreRoot string   `json:"store_root"` // path of the store in it
	HostUsers bool     `json:"host_users"`
	SameRoot  bool     `json:"same_root"`
	Find      bool     `json:"find,omitempty"` // only send the view, after one byte, over standard output, a socket
}

// placeResponse is what it answers.
type placeResponse struct {
	Error string `json:"error,omitempty"`
	Cause string `json:"cause,omitempty"` // key in placeCauses
}

// placeCauses are the errors that a caller tells apart.
func placeCauses() map[string]error {
	return map[string]error{
		"entitled": ErrNotEntitled, "attached": ErrNotAttached, "unsupported": ErrUnsupported, "layer": ErrNoLayer,
		"target": ErrTarget,
	}
}

func responseOf(err error) placeResponse {
	if err == nil {
		return placeResponse{}
	}
	r := placeResponse{Error: err.Error()}
	for name, cause := range placeCauses() {
		if errors.Is(err, cause) {
			r.Cause = name
		}
	}
	return r
}

// saidError is an error of the placer.
type saidError struct {
	text  string
	cause error
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.cause }

func (r *placeResponse) err() error {
	if r.Error == "" {
		return nil
	}
	return &saidError{r.Error, placeCauses()[r.Cause]}
}
