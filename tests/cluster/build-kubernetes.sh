#!/usr/bin/env bash
# Build what a control plane needs from Debian's packages, without root and without touching the machine:
#   build-kubernetes.sh FOLDER
# leaves etcd, kube-apiserver, kube-controller-manager and kube-scheduler in FOLDER, or nothing at all.
# Packages come from wherever the machine's own apt sources point; they are unpacked, never installed. Takes about
# 8 minutes on two cores. A second call waits for the first one and then finds its work done.
set -euo pipefail

kubernetes=1.20.2
source_version='1.20.5+really1.20.2'
go=golang-1.19
packages=(etcd-server "$go-go" "$go-src" golang-github-modern-go-reflect2-dev)
programs=(kube-apiserver kube-controller-manager kube-scheduler)

folder=$(realpath -m "$1")
work=$folder.building
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
[ -d "$folder" ] && exit 0

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { say "$*" >&2; exit 1; }

for tool in apt-get dpkg-source dpkg-deb rsync make; do
  command -v "$tool" >/dev/null || fail "$tool is missing: install Debian's packages dpkg-dev, make and rsync"
done

# The compiler's cache outlives an interrupted build, so that the next one goes on from there.
mkdir -p "$work/go-cache"
find "$work" -mindepth 1 -maxdepth 1 ! -name go-cache -exec rm -rf {} +
mkdir -p "$work"/{apt/sources,apt/lists/partial,apt/cache/archives/partial,debs,root,home,result}
cd "$work"

say "reading the package lists (sources included)"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ -f "$file" ] || continue
  sed -nE '/^deb /{p;s/^deb /deb-src /p}' "$file" >"apt/sources/$(basename "$file" .list)-list.list"
done
for file in /etc/apt/sources.list.d/*.sources; do
  [ -f "$file" ] || continue
  sed -E 's/^Types:.*/Types: deb deb-src/' "$file" >"apt/sources/$(basename "$file")"
done
apt=(apt-get -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/apt/sources"
  -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o Acquire::Retries=3)
[ "$(id -u)" = 0 ] && apt+=(-o APT::Sandbox::User=root)
"${apt[@]}" update

say "fetching ${packages[*]} and the source of Kubernetes"
(cd debs && "${apt[@]}" download "${packages[@]}" && "${apt[@]}" source --download-only kubernetes)
for package in debs/*.deb; do dpkg-deb -x "$package" root; done
descriptions=(debs/kubernetes_"$source_version"-*.dsc)
[ -f "${descriptions[0]}" ] || fail "the package source here is not Kubernetes $source_version (Debian 12): put etcd," \
  "${programs[*]} of another origin into a folder and name it in KUBEBUILDER_ASSETS"
dpkg-source --no-check -x "${descriptions[0]}" source >/dev/null

# The vendored reflect2 1.0.1 crashes under Go 1.18 and later as soon as a custom resource is written.
rm -rf source/vendor/github.com/modern-go/reflect2
cp -r root/usr/share/gocode/src/github.com/modern-go/reflect2 source/vendor/github.com/modern-go/

say "building ${programs[*]} $kubernetes"
goroot=$work/root/usr/lib/${go/lang/}
env -u GOFLAGS -u GOPATH -u GOOS -u GOARCH -u MAKEFLAGS -u MFLAGS -u MAKELEVEL HOME="$work/home" GOROOT="$goroot" \
  PATH="$goroot/bin:$PATH" GOCACHE="$work/go-cache" GO111MODULE=off CGO_ENABLED=0 GOTOOLCHAIN=local \
  make -C source all WHAT="${programs[*]/#/cmd/}" \
  KUBE_GIT_VERSION="v$kubernetes" KUBE_GIT_TREE_STATE=clean KUBE_GIT_COMMIT=debian

for program in "${programs[@]}"; do cp -L "source/_output/bin/$program" result/; done
cp root/usr/bin/etcd result/
"$work/result/kube-apiserver" --version
mv -T result "$folder"
cd /
rm -rf "$work"
say "done: $folder"
