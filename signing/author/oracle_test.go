package author_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing/author"
)

// TestUpdaterAgrees holds our tree to go-tuf's own client: it is a TUF
// repository that any client can follow.
func TestUpdaterAgrees(t *testing.T) {
	t.Parallel()
	p := place(tempDir(t))
	_, err := author.InitRepository(author.InitOptions{Tree: p.tree(), OfflineDir: p.offline(), OnlineDir: p.online()})
	check(t, err)
	r, err := author.OpenRepository(p.tree(), p.online(), durable.Disk{}, nil)
	check(t, err)
	id, err := author.CreateIdentity(durable.Disk{}, p.keys(), "p-alice", time.Now())
	check(t, err)
	check(t, r.AddIdentity(p.offline(), author.NewBundle(id)))
	for version, content := range []string{"index 1", "index 2"} {
		want := repo.ObjectOf([]byte(content))
		b, err := id.SignRole(author.RoleSpec{
			Version: int64(version) + 1, Expires: time.Now().Add(time.Hour), Repository: r.Root(),
			Targets: map[string]repo.Object{"alice/index/root": want},
		})
		check(t, err)
		check(t, r.Publish(context.Background(), "p-alice", b))
		check(t, r.RotateOnline(p.offline()))
		check(t, r.RenewOffline(p.offline()))
		got := follow(t, p)
		if got.Length != want.Size || hex.EncodeToString(got.Hashes["sha256"]) != want.Digest.Hex() {
			t.Errorf("the updater found %v, want %v", got, want)
		}
	}
}

func follow(t *testing.T, p place) *metadata.TargetFiles {
	t.Helper()
	first, err := os.ReadFile(filepath.Join(p.tree(), "metadata", "1.root.json"))
	check(t, err)
	cfg, err := config.New("https://repository/metadata", first)
	check(t, err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = tempDir(t), tempDir(t)
	cfg.Fetcher = treeFetcher(p.tree())
	u, err := updater.New(cfg)
	check(t, err)
	check(t, u.Refresh())
	target, err := u.GetTargetInfo("alice/index/root")
	check(t, err)
	return target
}

type treeFetcher string

func (f treeFetcher) DownloadFile(url string, _ int64, _ time.Duration) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(string(f), strings.TrimPrefix(url, "https://repository/")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: url}
	}
	return b, err
}
