package nest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/frames"
	"stork/repo/rpmfile"
)

// vocabulary is made once.
var vocabulary = sync.OnceValue(func() [][]byte {
	r, words := rand.New(rand.NewPCG(1, 2)), make([][]byte, 4000)
	for i := range words {
		words[i] = make([]byte, 3+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	return words
})

// prose compresses to about two fifths, as programs and texts do.
func prose(size int, seed uint64) []byte {
	r, words := rand.New(rand.NewPCG(seed, 1)), vocabulary()
	var text bytes.Buffer
	for text.Len() < size {
		text.Write(words[r.IntN(1+r.IntN(len(words)))])
		text.WriteByte(' ')
	}
	return text.Bytes()[:size]
}

// release is a version of a package of so many files, of which every n-th is
// another one in each version. It has a Python source whose content stays and
// whose object does not, for the store keeps its time.
func release(version string, files, size, every int) fixtures.Spec {
	spec := fixtures.Spec{
		Name: "app", Version: version, Compression: "zstd", BuildTime: time.Unix(1_700_000_000+int64(version[0]), 0),
		Files: []fixtures.File{
			fixtures.ConfigFile("/etc/app.conf", "answer = 42\n"), fixtures.Text("/opt/app/empty", ""),
			{Path: "/opt/app/link", Link: "000"}, fixtures.Text("/opt/app/m.py", sourceText), fixtures.Text("/opt/app/m.pyc", version),
		},
	}
	for n := range files {
		seed := uint64(n)
		if n%every == 0 {
			seed += 1000 * uint64(version[0])
		}
		spec.Files = append(spec.Files, fixtures.File{Path: fmt.Sprintf("/opt/app/%03d", n), Content: prose(size, seed)})
	}
	return spec
}

const sourceText = "print('hello')\n"

// blobOf returns the package that an index entry names, and its file list.
func (o *origin) blobOf(name string) (record *repo.Record, blob []byte, list *repo.FileList) {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join(o.tree, repo.DataPath(o.ids[name])))
	must(o.t, err)
	record, err = repo.DecodeRecord(text)
	must(o.t, err)
	blob, err = os.ReadFile(filepath.Join(o.tree, repo.BlobPath(record.Blob.Digest)))
	must(o.t, err)
	text, err = os.ReadFile(filepath.Join(o.tree, repo.DataPath(record.FileList.Digest)))
	must(o.t, err)
	list, err = repo.DecodeFileList(text)
	must(o.t, err)
	return record, blob, list
}

// offerFrames makes the frames of a package, as the repository does, and
// returns where they lie in the tree.
func (o *origin) offerFrames(name string) string {
	o.t.Helper()
	record, blob, list := o.blobOf(name)
	path := repo.FramesPath(record.Blob.Digest)
	o.write(path, nil)
	f, err := os.OpenFile(filepath.Join(o.tree, path), os.O_WRONLY, 0)
	must(o.t, err)
	defer f.Close()
	m, err := frames.NewMaker(frames.LayoutOf(list), f)
	must(o.t, err)
	defer m.Close()
	_, err = rpmfile.Walk(bytes.NewReader(blob), func(e rpmfile.Entry, content io.Reader) error {
		return m.Add(repo.Object{Digest: list.Files[e.Index].Digest, Size: list.Files[e.Index].Size}, content)
	})
	must(o.t, err)
	must(o.t, m.Finish())
	return path
}

// counter counts the bytes of answers, and those of frames apart.
type counter struct{ all, frames, requests atomic.Int64 }

type countedWriter struct {
	http.ResponseWriter
	count []*atomic.Int64
}

func (w *countedWriter) Write(b []byte) (int, error) {
	for _, c := range w.count {
		c.Add(int64(len(b)))
	}
	return w.ResponseWriter.Write(b)
}

func (c *counter) watch(o *origin) {
	files := http.FileServer(http.Dir(o.tree))
	o.onRequest(func(w http.ResponseWriter, r *http.Request) {
		counted := &countedWriter{w, []*atomic.Int64{&c.all}}
		if strings.HasPrefix(r.URL.Path, "/frames/") {
			counted.count = append(counted.count, &c.frames)
			c.requests.Add(1)
		}
		files.ServeHTTP(counted, r)
	})
}

// holds fails the test if the layer of a package is not what it is.
func (o *origin) holds(n *Nest, name string) {
	o.t.Helper()
	_, blob, list := o.blobOf(name)
	dir, ok := n.Store.Layer(o.ids[name])
	if !ok {
		o.t.Fatal("the layer is not in its place")
	}
	_, err := rpmfile.Walk(bytes.NewReader(blob), func(e rpmfile.Entry, content io.Reader) error {
		want, err := io.ReadAll(content)
		must(o.t, err)
		if got, err := os.ReadFile(dir + list.Files[e.Index].Path); err != nil || !bytes.Equal(got, want) {
			o.t.Errorf("%s is not what the package has: %v", e.Path, err)
		}
		return nil
	})
	must(o.t, err)
}

// TestUpgradeByParts upgrades a package of 20 MB in 400 files, of which 5 % of
// the bytes change: that moves at most 10 % of the package.
func TestUpgradeByParts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(release("1.0", 400, 50_000, 20))
	o.offerFrames("app")
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	var first, second counter
	first.watch(o)
	_, err := prepareAll(n, "g1", o, "app")
	must(t, err)
	if asked := first.requests.Load(); asked != 0 {
		t.Errorf("for the first version frames were asked for %d times", asked)
	}

	o.publish(release("2.0", 400, 50_000, 20))
	o.offerFrames("app")
	refreshed(t, n)
	blobs := o.blobRequests.Load()
	second.watch(o)
	before, err := n.State.Fetched(context.Background())
	must(t, err)
	got, err := prepareAll(n, "g1", o, "app")
	must(t, err)
	record, _, _ := o.blobOf("app")
	moved, size := second.all.Load(), record.Blob.Size
	t.Logf("the package has %d bytes, %d were moved (%.1f %%), in %d requests for frames", size, moved, 100*float64(moved)/float64(size), second.requests.Load())
	if moved > size/10 || o.blobRequests.Load() != blobs {
		t.Errorf("%d of %d bytes were moved, the package was asked for %d times", moved, size, o.blobRequests.Load()-blobs)
	}
	after, err := n.State.Fetched(context.Background())
	must(t, err)
	if p := got["app"]; p.Fetched != second.frames.Load() || p.Fetched != after-before || p.Stored != 20*50_000+int64(len(sourceText+"2.0")) || len(p.Private) != 1 {
		t.Errorf("prepared %+v, counted %d; of frames %d bytes were served", p, after-before, second.frames.Load())
	}
	o.holds(n, "app")
	checkSound(t, n)
	left, err := os.ReadDir(filepath.Join(n.Dir, "spool"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("in the spool there is %v", left)
	}
}

// TestUpgradeOfNothing needs nothing of a package whose files are all here.
func TestUpgradeOfNothing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	spec := release("1.0", 20, 50_000, 1)
	o.publish(spec)
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	_, err := prepareAll(n, "g1", o, "app")
	must(t, err)
	spec.Release = "2"
	o.publish(spec)
	refreshed(t, n)
	blobs := o.blobRequests.Load()
	got, err := prepareAll(n, "g1", o, "app")
	must(t, err)
	if p := got["app"]; p.Cached || p.Fetched != 0 || p.Stored != 0 || o.blobRequests.Load() != blobs {
		t.Errorf("prepared %+v, the package was asked for %d times", p, o.blobRequests.Load()-blobs)
	}
	o.holds(n, "app")
	checkSound(t, n)
}

// TestHostileFrames upgrades although the frames are not what they should be:
// then the whole package comes, and nothing else gets into the store.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	const head, contents = 16, 20 + 3 // and the frames are as many
	entry := func(b []byte, n int) []byte { return b[head+8*n:][:8] }
	flood := func(b []byte, frame []byte) []byte { // one frame for all the large files
		at := len(b)
		for n := 1; n <= 20 && len(b) > head+8*contents; n++ {
			binary.BigEndian.PutUint64(entry(b, n), uint64(at)<<24|uint64(len(frame)))
		}
		return append(b, frame...)
	}
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(zstd.MaxWindowSize))
	must(t, err)
	bomb := z.EncodeAll(make([]byte, 512<<20), nil)
	other := z.EncodeAll(prose(50_000, 77777), nil)
	must(t, z.Close())
	for name, change := range map[string]func([]byte) []byte{
		"none":           nil,
		"empty":          func([]byte) []byte { return nil },
		"only the index": func(b []byte) []byte { return b[:head+8*contents] },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"another header": func(b []byte) []byte { b[0] ^= 1; return b },
		"zeros":          func(b []byte) []byte { clear(b[head:]); return b },
		"ones":           func(b []byte) []byte { return append(b[:head], bytes.Repeat([]byte{255}, len(b))...) },
		"far away":       func(b []byte) []byte { copy(entry(b, 1), []byte{255, 255, 255, 255, 0}); return b },
		"swapped": func(b []byte) []byte {
			x := bytes.Clone(entry(b, 1))
			copy(entry(b, 1), entry(b, 6))
			copy(entry(b, 6), x)
			return b
		},
		"all the same": func(b []byte) []byte { return flood(b, other) },
		"bombs":        func(b []byte) []byte { return flood(b, bomb[:min(len(bomb), 50_000)]) },
		"damaged": func(b []byte) []byte {
			for n := head + 8*contents; n < len(b); n += 1000 {
				b[n] ^= 1
			}
			return b
		},
		"no frame":           func(b []byte) []byte { return flood(b, []byte("hello")) },
		"overlapping frames": func(b []byte) []byte { entry(b, 1)[4]++; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, n := upgradable(t)
			path := filepath.Join(o.tree, o.offerFrames("app"))
			good, err := os.ReadFile(path)
			must(t, err)
			must(t, os.Remove(path))
			if change != nil {
				must(t, os.WriteFile(path, change(bytes.Clone(good)), 0o644))
			}
			o.upgradesWhole(n)
		})
	}
}

// upgradable is a nest that has one version of a package, of whose 20 files a
// fifth are others in the next version, which is published.
func upgradable(t *testing.T) (*origin, *Nest) {
	t.Helper()
	o := newOrigin(t)
	o.publish(release("1.0", 20, 50_000, 5))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	_, err := prepareAll(n, "g1", o, "app")
	must(t, err)
	o.publish(release("2.0", 20, 50_000, 5))
	refreshed(t, n)
	return o, n
}

// upgradesWhole prepares the next version, for which the whole package comes.
func (o *origin) upgradesWhole(n *Nest) {
	o.t.Helper()
	blobs := o.blobRequests.Load()
	_, err := prepareAll(n, "g1", o, "app")
	must(o.t, err)
	if o.blobRequests.Load() == blobs {
		o.t.Error("the package was not asked for")
	}
	o.holds(n, "app")
	report, err := n.Check(context.Background())
	must(o.t, err)
	if len(report.Problems) > 0 {
		o.t.Errorf("store is not sound: %v", report.Problems)
	}
}

// TestServersWithoutRanges upgrades from servers that do not answer as asked.
func TestServersWithoutRanges(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"everything":    func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range") },
		"another range": func(w http.ResponseWriter, r *http.Request) { r.Header.Set("Range", "bytes=1-100") },
		"no content": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"too much": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+"/1000000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 1<<20))
		},
		"too little": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+"/1000000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("stork"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, n := upgradable(t)
			o.offerFrames("app")
			o.onRequest(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/frames/") {
					answer(w, r)
				}
			})
			o.upgradesWhole(n)
		})
	}
}

// TestPartsOfALayerThatIsGone does not find a content where it was.
func TestPartsOfALayerThatIsGone(t *testing.T) {
	t.Parallel()
	o, n := upgradable(t)
	o.offerFrames("app")
	layers, err := n.State.LayersNamed(context.Background(), "app", 3)
	must(t, err)
	if len(layers) != 1 {
		t.Fatalf("there are %d layers", len(layers))
	}
	var once atomic.Bool
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/frames/") && !once.Swap(true) {
			must(t, n.State.RemoveLayer(context.Background(), layers[0].ID))
			must(t, n.Store.Remove(context.Background(), layers[0].ID))
		}
	})
	o.upgradesWhole(n)
}
