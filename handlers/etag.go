package handlers

import "strings"

// matches reports whether the values of an If-None-Match header contain etag, using the weak comparison (RFC 9110,
// section 13.1.2). The ETag of the compressed response matches as well. The server's ETags contain no commas.
func matches(ifNoneMatch []string, etag string) bool {
	for _, value := range ifNoneMatch {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			candidate = strings.Replace(strings.TrimPrefix(candidate, "W/"), gzipSuffix+`"`, `"`, 1)
			if candidate == "*" || candidate == etag {
				return true
			}
		}
	}
	return false
}
