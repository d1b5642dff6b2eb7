package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stork/client"
	"stork/nestd/api"
	"stork/repo"
	"stork/tools/testbed/box"
)

const repoPort = 8080

// startTimeout is how long a daemon may take to answer for the first time.
const startTimeout = 30 * time.Second

// digestForm is how programs print a digest.
var digestForm = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// startRepository makes the repository and serves it. The offline keys stay
// out of the server's reach.
func (t *Testbed) startRepository(ctx context.Context) error {
	dir := t.path(repoName)
	for _, d := range []string{dir, t.offline()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := t.own(dir, repoUser); err != nil {
		return err
	}
	out, err := t.operate(ctx, "init", dir, "--keys", t.offline())
	if err != nil {
		return err
	}
	if t.state.Root, err = firstDigest(out); err != nil {
		return fmt.Errorf("cannot find the repository's root in what init printed: %w", err)
	}
	machine, _ := addresses(0)
	at := machine.Addr().String() + ":" + strconv.Itoa(repoPort)
	t.state.URL = "http://" + at
	if err := t.daemon(ctx, repoName, repoUser, "/", "stork-repo", "serve", dir, "--listen", at); err != nil {
		return err
	}
	return wait(ctx, "the repository", func(ctx context.Context) error {
		_, err := t.ask(ctx, repoName, box.Request{Get: t.state.URL + "/" + repo.MetadataPath("root", 1)})
		return err
	})
}

// offline is where the operator's offline keys lie.
func (t *Testbed) offline() string { return t.path("offline") }

// operate runs a command of the repository's operator. Only while it runs are
// the offline keys within reach of the repository's user.
func (t *Testbed) operate(ctx context.Context, args ...string) (out string, err error) {
	t.operator.Lock()
	defer t.operator.Unlock()
	if err := t.own(t.offline(), repoUser); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, t.own(t.offline(), 0)) }()
	return t.tool(ctx, repoName, repoUser, "/", append([]string{"stork-repo"}, args...)...)
}

func firstDigest(text string) (repo.Digest, error) {
	return repo.ParseDigest(digestForm.FindString(text))
}

// wait repeats an attempt until it succeeds.
func wait(ctx context.Context, what string, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot reach %s: %w", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// own gives a tree to a machine's user.
func (t *Testbed) own(dir string, user int) error {
	if t.state.Rootless {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if err := unix.Lchown(path, user, user); err != nil && !errors.Is(err, unix.ENOENT) {
			return &fs.PathError{Op: "chown", Path: path, Err: err}
		}
		return nil
	})
}

// startPublisher makes alice's keys and has the repository know them.
func (t *Testbed) startPublisher(ctx context.Context) error {
	home := t.path(publisherName)
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	if err := t.own(home, publisherUser); err != nil {
		return err
	}
	owner, err := t.addPublisher(ctx, publisherName)
	if err != nil {
		return err
	}
	t.state.Owner = owner
	_, err = t.tool(ctx, publisherName, publisherUser, home, "stork", "repo", "add", t.state.URL, "--root", t.state.Root.String())
	return err
}

// addPublisher makes a name's keys on alice's machine, and returns the pin of
// the owner of that name.
func (t *Testbed) addPublisher(ctx context.Context, name string) (repo.Digest, error) {
	home := t.path(publisherName)
	out, err := t.tool(ctx, publisherName, publisherUser, home, "stork", "key", "new", "--json", name)
	if err != nil {
		return repo.Digest{}, err
	}
	var info struct {
		Owner repo.Digest `json:"owner"`
		File  string      `json:"file"`
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return repo.Digest{}, fmt.Errorf("cannot read what 'stork key new' printed: %w", err)
	}
	// Public, but in the publisher's own folder.
	keys := t.path("mail", name+".keys")
	data, err := os.ReadFile(filepath.Join(home, name+".keys"))
	if err == nil {
		err = os.WriteFile(keys, data, 0o644)
	}
	if err != nil {
		return repo.Digest{}, err
	}
	_, err = t.operate(ctx, "publisher", "add", name, keys, "--dir", t.path(repoName))
	return info.Owner, err
}

// startNest makes a nest, has the repository know it, and starts its guests.
func (t *Testbed) startNest(ctx context.Context, nest string) error {
	dir := t.path(nest)
	out, err := t.tool(ctx, nest, 0, "/", "nestd", "init", "--repo", t.state.URL, "--root", t.state.Root.String(), "--json", "--dir", dir)
	if err != nil {
		return err
	}
	var made struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return fmt.Errorf("cannot read what 'nestd init' printed: %w", err)
	}
	if err := t.approve(ctx, made.Key); err != nil {
		return err
	}
	if err := t.setTransfer(nest); err != nil {
		return err
	}
	if err := t.daemon(ctx, nest, 0, "/", "nestd", "run", "--dir", dir); err != nil {
		return err
	}
	operator := client.DialOperator(t.OperatorSocket(nest))
	defer operator.Close()
	if err := wait(ctx, "nest "+nest, func(ctx context.Context) error {
		_, err := operator.Status(ctx)
		return err
	}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, guest := range t.Guests(nest) {
		group.Go(func() error { return t.startGuest(ctx, operator, nest, guest) })
	}
	return group.Wait()
}

// setTransfer puts the testbed's transfer setting into a nest's configuration.
func (t *Testbed) setTransfer(nest string) error {
	if t.transfer == "" {
		return nil
	}
	path := t.path(nest, "nest.json")
	machine, _ := addresses(firstNest + slices.Index(t.state.Nests, nest))
	setting := strings.ReplaceAll(t.transfer, "{address}", machine.Addr().String())
	config := map[string]json.RawMessage{}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &config)
	}
	config["transfer"] = json.RawMessage(setting)
	if err == nil {
		b, err = json.Marshal(config)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot configure nest: %w", err)
	}
	return nil
}

func (t *Testbed) approve(ctx context.Context, key string) error {
	_, err := t.operate(ctx, "nest", "add", key, "--dir", t.path(repoName))
	return err
}

func (t *Testbed) startGuest(ctx context.Context, operator *client.Operator, nest, guest string) error {
	registered, err := operator.AddGuest(ctx, api.GuestRequest{Name: guest, Owner: t.state.Owner, HostUserNS: t.state.HostUser})
	if err != nil {
		return fmt.Errorf("cannot register guest %s: %w", guest, err)
	}
	return t.bootGuest(ctx, nest, guest, registered.Directory)
}

// bootGuest starts a guest's box on its nest's machine, with the nest's
// directory for it.
func (t *Testbed) bootGuest(ctx context.Context, machine, guest, directory string) error {
	own := t.path("guests", guest)
	if err := os.Mkdir(own, 0o711); err != nil {
		return err
	}
	_, err := t.ask(ctx, machine, box.Request{Guest: &box.Guest{
		Name: guest, Socket: t.socket(guest), Nest: directory,
		Upper: filepath.Join(own, "upper"), Work: filepath.Join(own, "work"),
	}})
	return err
}

// Publish signs and uploads packages as a publisher, and returns when every
// nest serves them. A publisher other than alice is made known to the
// repository first, but no guest trusts it.
func (t *Testbed) Publish(ctx context.Context, as string, files []string) error {
	if err := t.Upload(ctx, as, files); err != nil {
		return err
	}
	return t.Refresh(ctx)
}

// Upload is Publish without the nests: they serve what is new when they have
// next asked for it.
func (t *Testbed) Upload(ctx context.Context, as string, files []string) error {
	if _, err := repo.ParsePublisher(as); err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	home := t.path(publisherName)
	if _, err := os.Stat(filepath.Join(home, as+".keys")); errors.Is(err, fs.ErrNotExist) {
		if _, err := t.addPublisher(ctx, as); err != nil {
			return fmt.Errorf("cannot publish: %w", err)
		}
	}
	incoming, err := os.MkdirTemp(home, "incoming-")
	if err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	defer os.RemoveAll(incoming)
	// A list, for tens of thousands of files do not fit on a command line.
	list := filepath.Join(incoming, "list")
	var paths strings.Builder
	for n, file := range files {
		path, err := t.bring(file, filepath.Join(incoming, strconv.Itoa(n)+".rpm"))
		if err != nil {
			return fmt.Errorf("cannot publish: %w", err)
		}
		paths.WriteString(path + "\n")
	}
	if err := os.WriteFile(list, []byte(paths.String()), 0o600); err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	if err := t.own(incoming, publisherUser); err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	if _, err := t.tool(ctx, publisherName, publisherUser, home, "stork", "publish", "-y", "--as", as, "@"+list); err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	return nil
}

// bring returns a path of a file that the publisher can read: a copy, at
// copied, unless everybody can.
func (t *Testbed) bring(file, copied string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if t.state.Rootless || forEverybody(path) {
		return path, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return copied, os.WriteFile(copied, data, 0o600)
}

func forEverybody(path string) bool {
	for need := os.FileMode(0o004); ; need = 0o001 {
		info, err := os.Stat(path)
		if err != nil || info.Mode()&need == 0 {
			return false
		}
		if path == "/" {
			return true
		}
		path = filepath.Dir(path)
	}
}

// Refresh returns when every nest serves what the repository has now.
func (t *Testbed) Refresh(ctx context.Context) error {
	for _, nest := range t.state.Nests {
		operator := client.DialOperator(t.OperatorSocket(nest))
		statuses, err := operator.Refresh(ctx)
		operator.Close()
		if err == nil {
			i := slices.IndexFunc(statuses, func(s api.RepositoryStatus) bool { return s.Root == t.state.Root })
			switch {
			case i < 0:
				err = errors.New("it does not follow the repository")
			case statuses[i].Error != "":
				err = errors.New(statuses[i].Error)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot refresh nest %s: %w", nest, err)
		}
	}
	return nil
}

// privileged says whether this process may do without a user namespace.
func privileged() bool {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil || os.Geteuid() != 0 {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, "CapEff:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && set&(1<<unix.CAP_SYS_ADMIN) != 0 && set&(1<<unix.CAP_MKNOD) != 0
		}
	}
	return false
}
