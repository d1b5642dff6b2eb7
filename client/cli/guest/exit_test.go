package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"stork/client"
	"stork/client/catalog"
	"stork/client/change"
	"stork/client/pins"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo/program"
	"stork/signing/trust"
)

// TestExitStatuses holds errors to the statuses that the help and
// docs/api.md promise.
func TestExitStatuses(t *testing.T) {
	t.Parallel()
	unsolvable := func(kind solve.LineKind) error {
		return &solve.Unsolvable{Problems: []solve.Problem{{Lines: []solve.Line{{Kind: kind}}}}}
	}
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"no such package":  {unsolvable(solve.NoMatch), ExitNotFound},
		"not installed":    {unsolvable(solve.NotInstalled), ExitNotFound},
		"other arch":       {unsolvable(solve.WrongArch), ExitNotFound},
		"nothing provides": {unsolvable(solve.NothingProvides), exitUnsolvable},
		"conflict":         {unsolvable(solve.ConflictsWith), exitUnsolvable},
		"would remove":     {&solve.Unsolvable{WouldRemove: []*solve.Package{{Name: "x"}}}, exitUnsolvable},
		"refused":          {change.ErrRefused, exitUntrusted},
		"no policy":        {catalog.ErrNoPolicy, exitUntrusted},
		"expired":          {trust.ErrExpired, exitUntrusted},
		"untrusted":        {trust.ErrUntrusted, exitUntrusted},
		"missing":          {trust.ErrMissing, exitUntrusted},
		"nothing pinned":   {pins.ErrNone, exitUntrusted},
		"nest down":        {client.ErrDown, exitUnreachable},
		"busy":             {&transaction.BusyError{}, exitBusy},
		"changing":         {transaction.ErrChanging, exitBusy},
		"file in the way":  {&share.ConflictError{}, exitConflict},
		"disk full":        {syscall.ENOSPC, exitNoSpace},
		"quota":            {syscall.EDQUOT, exitNoSpace},
		"wire not found":   {&api.Error{Code: api.NotFound}, ExitNotFound},
		"wire entitled":    {&api.Error{Code: api.NotEntitled}, exitUntrusted},
		"wire untrusted":   {&api.Error{Code: api.Untrusted}, exitUntrusted},
		"wire unreachable": {&api.Error{Code: api.Unreachable}, exitUnreachable},
		"wire no space":    {&api.Error{Code: api.NoSpace}, exitNoSpace},
		"wire internal":    {&api.Error{Code: api.InternalCode}, program.Failed},
		"wire unheard of":  {&api.Error{Code: "later"}, program.Failed},
	} {
		if got := Explain(fmt.Errorf("cannot do it: %w", tt.err)); got == nil || got.Status != tt.want {
			t.Errorf("%s: got %+v, want status %d", name, got, tt.want)
		}
	}
	for _, err := range []error{errors.New("anything"), fs.ErrNotExist} {
		if got := Explain(err); got != nil {
			t.Errorf("%v: got %+v, want no explanation", err, got)
		}
	}
}

// TestShown holds what people see.
func TestShown(t *testing.T) {
	t.Parallel()
	plan := &change.Plan{
		Packages: []change.Item{
			{Action: solve.Install, Name: "libcurl", Version: "8.1-2", Arch: "x86_64", Publisher: "fedora", Reason: solve.Dependency, For: "curl-8.1-2.x86_64", Size: 900_000, Download: 300_000},
			{Action: solve.Install, Name: "curl", Version: "8.1-2", Arch: "x86_64", Publisher: "fedora", Reason: solve.User, Size: 500_000, OnHost: true},
			{Action: solve.Upgrade, Name: "tool", Version: "2-1", Arch: "noarch", Publisher: "alice", Reason: solve.User, Replaces: []string{"tool-1-1.noarch"}, Size: 10, OnHost: true},
			{Action: solve.Remove, Name: "old", Version: "1-1", Arch: "noarch", Publisher: "alice"},
		},
		Satisfied: []string{"bash"}, Download: 300_000, Size: 1_400_010,
	}
	outcome := &change.Outcome{
		Plan: plan, Fetched: 300_000, Stored: 900_000, Shared: 500_010,
		Installed: []string{"libcurl", "curl", "tool"}, Removed: []string{"old"}, Warnings: []string{"%post of curl failed"},
	}
	var out, errs bytes.Buffer
	streams := program.Streams{Out: &out, Err: &errs}
	showPlan(streams, plan)
	showOutcome(streams, outcome, 1234567*time.Microsecond)
	golden, err := os.ReadFile("testdata/shown.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(golden) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), golden)
		if os.Getenv("STORK_UPDATE") != "" {
			if err := os.WriteFile("testdata/shown.txt", out.Bytes(), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	if got, want := errs.String(), "Warning: %post of curl failed\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
