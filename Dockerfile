# koala-lm as a plain user on a read-only root; the working folder holds data and runs:
#
#   docker build -t koala-lm .
#   docker run --rm --read-only --tmpfs /tmp --user $(id -u):$(id -g) -v "$PWD:/work" koala-lm train --data prepared/godoc
#   docker run --rm --read-only --tmpfs /tmp --user $(id -u):$(id -g) -v "$PWD:/work" koala-lm report
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3 python3-pip
COPY . /src
WORKDIR /src
# The engine finds libtorch and its kernels where they lay when it was linked.
ENV KOALA_LM_CACHE=/opt/koala-lm
RUN make build && rm -rf /opt/koala-lm/libtorch-*/torch/include /opt/koala-lm/headers-* /opt/koala-lm/object-* && chmod -R a+rX /opt/koala-lm

FROM debian:bookworm-slim
COPY --from=build /opt/koala-lm /opt/koala-lm
COPY --from=build /src/bin /usr/local/bin
ENV HOME=/tmp
WORKDIR /work
USER 65532:65532
ENTRYPOINT ["koala-lm"]
