package nest

import (
	"sync"

	"stork/nestd/api"
	"stork/repo"
)

// answers keeps what queries were answered with. An index is named by its
// digest, so an answer never changes: hundreds of guests that install the same
// ask the same. The zero value is empty and ready.
type answers struct {
	mu   sync.Mutex
	by   map[repo.Digest]*answer // by the request's digest; read only
	size int                     // bytes
}

// answer is what a query was answered with, and, if these are few, the packages
// that it names.
type answer struct {
	response *api.QueryResponse
	packages []api.PackageRef
}

// maxAnswers and maxOneAnswer bound what is kept, in bytes.
const (
	maxAnswers   = 8 << 20
	maxOneAnswer = 256 << 10
)

// keyOf names a request.
func keyOf(request api.QueryRequest) (repo.Digest, error) {
	b, err := repo.EncodeCanonical(request)
	return repo.DigestOf(b), err
}

func (a *answers) find(key repo.Digest) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[key]
}

// keep takes an answer, which nobody changes from then on. When there is no
// more room, it begins anew.
func (a *answers) keep(key repo.Digest, found *answer) {
	size := sizeOf(found)
	if size > maxOneAnswer {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil || a.size+size > maxAnswers {
		a.by, a.size = map[repo.Digest]*answer{}, 0
	}
	if a.by[key] == nil {
		a.by[key] = found
		a.size += size
	}
}

// sizeOf is about how much an answer takes.
func sizeOf(found *answer) int {
	size := 256 + 128*len(found.packages)
	for _, r := range found.response.Results {
		size += 64
		for _, entry := range r.Entries {
			size += 32 + len(entry)
		}
	}
	for _, document := range found.response.Documents {
		size += 32 + len(document)
	}
	return size
}
