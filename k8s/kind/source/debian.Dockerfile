# Programs of a Debian package with the libraries they link, and nothing else: no shell, not root. No entrypoint: name the program.
ARG ROOTFS
FROM $ROOTFS AS package
ARG PACKAGE
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$PACKAGE"
ARG PROGRAMS
RUN mkdir -p /image/data /image/tmp && chmod 1777 /image/data /image/tmp \
 && for program in $PROGRAMS; do \
      install -D "$(readlink -f "/usr/bin/$program")" "/image/usr/bin/$program" || exit 1; \
      { ldd "/usr/bin/$program" || true; } | grep -oE '/[^ ]+\.so[^ ]*' | while read -r library; do \
        install -D "$(readlink -f "$library")" "/image$library" || exit 1; \
      done; \
    done

FROM scratch
COPY --from=package /image /
USER 10001:10001
WORKDIR /data
