package api

import "stork/repo"

// WarmRoute is where nests ask which packages the repository's operator wants
// them to have before anybody installs them. The answer is a [WarmList], and
// no more than a wish: it is not signed, a nest obeys it as far as its own
// operator allows, and verifies the packages like any others.
const WarmRoute = "/v1/warm"

// WarmList names the packages, in the order in which they are to come.
type WarmList struct {
	Packages []WarmPackage `json:"packages"`
}

// WarmPackage names one package of a publisher's index.
type WarmPackage struct {
	ID        repo.Digest    `json:"id"` // the record's digest
	Name      repo.Name      `json:"name"`
	Publisher repo.Publisher `json:"publisher"`
}

// Bounds of a list: packages, and bytes of its JSON.
const (
	MaxWarm     = 1000
	MaxWarmList = 512 << 10
)
