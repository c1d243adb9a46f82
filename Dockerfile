# ptv2 serve with torch for CPUs. docs/serve.md says how to run it.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
  PIP_ROOT_USER_ACTION=ignore

# Torch by itself first: it is the largest layer, and changes of the package keep it.
# TORCH_INDEX is the package index of torch's builds for CPUs; its installation page names it.
ARG TORCH_INDEX
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.8"

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY ptv2_cli ptv2_cli
COPY configs configs
COPY docs/schema.json docs/schema.json
RUN pip install ".[serve]"

RUN useradd --create-home --uid 10001 ptv2
USER ptv2
WORKDIR /home/ptv2

EXPOSE 8000
# SIGTERM lets the server answer what it has: allow it the 30 s of --drain before it is killed.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]

ENTRYPOINT ["ptv2", "serve", "--host", "0.0.0.0", "--port", "8000"]
