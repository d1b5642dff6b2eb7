package catalog_test

import (
	"slices"
	"testing"

	"stork/client/catalog"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// TestPick holds each kind of query to what nestd/api promises and the nest
// answers.
func TestPick(t *testing.T) {
	t.Parallel()
	entries := []index.Entry{
		{Name: "curl", Summary: "Transfer data with URLs", Provides: []repo.Capability{{Name: "webclient"}}, Paths: []string{"/usr/bin/curl"},
			Requires: []string{"libcurl >= 7", "(openssl or gnutls)"}, RequiresPre: []string{"/bin/sh"}},
		{Name: "libcurl", Summary: "Library of curl", Obsoletes: []repo.Capability{{Name: "curl-libs", Op: repo.Less, EVR: repo.EVR{Version: "2"}}}},
		{Name: "curl-doc", Summary: "Documents", Supplements: []string{"(curl and docs)"}},
		{Name: "wget", Summary: "Fetch", Enhances: []string{"curl"}},
	}
	for _, tt := range []struct {
		kind  api.QueryKind
		terms []string
		want  []repo.Name
	}{
		{api.ByName, []string{"curl", "wget", "cur"}, []repo.Name{"curl", "wget"}},
		{api.ByName, []string{"*"}, nil},
		{api.ByGlob, []string{"curl*", "w?et"}, []repo.Name{"curl", "curl-doc", "wget"}},
		{api.ByGlob, []string{"[", "lib*"}, []repo.Name{"libcurl"}},
		{api.ByCapability, []string{"webclient"}, []repo.Name{"curl"}},
		{api.ByCapability, []string{"/usr/bin/curl"}, []repo.Name{"curl"}},
		{api.ByCapability, []string{"libcurl"}, []repo.Name{"libcurl"}},
		{api.ByObsoletes, []string{"curl-libs"}, []repo.Name{"libcurl"}},
		{api.ByObsoletes, []string{"libcurl"}, nil},
		{api.ByReverse, []string{"docs"}, []repo.Name{"curl-doc"}},
		{api.ByReverse, []string{"curl"}, []repo.Name{"curl-doc", "wget"}},
		{api.ByRequires, []string{"libcurl"}, []repo.Name{"curl"}},
		{api.ByRequires, []string{"gnutls"}, []repo.Name{"curl"}},
		{api.ByRequires, []string{"/bin/sh"}, []repo.Name{"curl"}},
		{api.ByText, []string{"CURL"}, []repo.Name{"curl", "libcurl", "curl-doc"}},
		{api.ByText, []string{"curl library"}, []repo.Name{"libcurl"}},
		{api.ByText, []string{"fetch", "documents"}, []repo.Name{"curl-doc", "wget"}},
		{api.ByText, []string{" "}, nil},
		{"unheard of", []string{"curl"}, nil},
	} {
		var got []repo.Name
		for _, e := range catalog.Pick(entries, api.Query{Kind: tt.kind, Terms: tt.terms}) {
			got = append(got, e.Name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %q: got %q, want %q", tt.kind, tt.terms, got, tt.want)
		}
	}
}
