package cli

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"time"

	"stork/nestd/internal/state"
	"stork/repo/api"
)

// tokenLife is how long what the fetcher shows to trackers is good; the daemon
// gives it new ones every hour.
const tokenLife = 6 * time.Hour

// trackers returns where the trackers of this nest's repositories answer it,
// with tokens signed now. The key stays with the daemon.
func trackers(ctx context.Context, key ed25519.PrivateKey, s *state.State, log *slog.Logger) func() []string {
	return func() []string {
		repositories, err := s.Repositories(ctx)
		if err != nil {
			log.Warn("no tracker is known", "err", err)
			return nil
		}
		var list []string
		for _, r := range repositories {
			token := api.NewAnnounceToken(key, r.Root, time.Now().Add(tokenLife))
			list = append(list, strings.TrimSuffix(r.URL, "/")+api.AnnounceRoute+string(token))
		}
		return list
	}
}
