package attach

import (
	"strings"
)

// mapsRoot says whether a uid_map or gid_map, as read by the nest, maps the
// guest's 0 to the nest's 0 (user_namespaces(7)).
func mapsRoot(idMap string) bool {
	for line := range strings.Lines(idMap) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "0" {
			return fields[1] == "0" && fields[2] != "0"
		}
	}
	return false
}
